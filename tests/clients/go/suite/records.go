package main

// Producing and consuming: what a record is made of, how batches are compressed, what comes back.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func jsonAutocreate(ctx context.Context) {
	topic := name("json")
	client := connect(kgo.AllowAutoTopicCreation())
	defer client.Close()
	type reading struct {
		Sensor string  `json:"sensor"`
		Value  float64 `json:"value"`
	}
	failures := make(chan error, 200)
	for i := range 200 {
		value, err := json.Marshal(reading{fmt.Sprintf("s%d", i%7), float64(i)})
		must(err, "json")
		record := &kgo.Record{Topic: topic, Key: []byte(fmt.Sprintf("s%d", i%7)), Value: value}
		client.Produce(ctx, record, func(_ *kgo.Record, err error) { failures <- err })
	}
	must(client.Flush(ctx), "flush")
	for range 200 {
		must(<-failures, "producing")
	}
	seen := map[float64]bool{}
	for _, records := range consume(ctx, topic, 200) {
		for _, record := range records {
			var r reading
			must(json.Unmarshal(record.Value, &r), "json")
			expect(r.Sensor == string(record.Key), "key and value differ: %s %s", record.Key, record.Value)
			seen[r.Value] = true
		}
	}
	expect(len(seen) == 200, "%d different readings", len(seen))
	details, err := admin.ListTopics(ctx, topic)
	must(err, "listing")
	expect(len(details[topic].Partitions) == 3, "auto-created with %d partitions, num.partitions is 3", len(details[topic].Partitions))
}

func headersAndNulls(ctx context.Context) {
	topic := name("headers")
	createTopic(ctx, topic, 1, nil)
	client := connect()
	defer client.Close()
	written := []*kgo.Record{
		{Topic: topic, Key: nil, Value: []byte("null key")},
		{Topic: topic, Key: []byte{}, Value: []byte("empty key")},
		{Topic: topic, Key: []byte("tombstone"), Value: nil},
		{Topic: topic, Key: []byte{0xff, 0x00, 0xfe}, Value: []byte{0x80, 0x00}},
		{Topic: topic, Key: []byte("h"), Value: []byte("headers"), Headers: []kgo.RecordHeader{
			{Key: "twice", Value: []byte("1")}, {Key: "twice", Value: []byte("2")},
			{Key: "null", Value: nil}, {Key: "empty", Value: []byte{}},
			{Key: "bytes", Value: []byte{0xff, 0xfe, 0x00}}, {Key: "\xff\xfe", Value: []byte("key that is not UTF-8")},
			{Key: "", Value: []byte("empty key")},
		}},
		{Topic: topic},
	}
	produce(ctx, client, written...)
	read := consume(ctx, topic, len(written))[0]
	for i, record := range read {
		expect(same(record.Key, written[i].Key), "record %d: key %v, expected %v", i, record.Key, written[i].Key)
		expect(same(record.Value, written[i].Value), "record %d: value %v, expected %v", i, record.Value, written[i].Value)
		expect(len(record.Headers) == len(written[i].Headers), "record %d: %d headers", i, len(record.Headers))
		for j, header := range record.Headers {
			wanted := written[i].Headers[j]
			expect(header.Key == wanted.Key && same(header.Value, wanted.Value), "record %d: header %d is %v", i, j, header)
		}
	}
}

// same tells null from empty.
func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

func recordsOfOneMib(ctx context.Context) {
	topic := name("mib")
	createTopic(ctx, topic, 1, map[string]*string{"max.message.bytes": ptr("2097152")})
	for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.Lz4Compression()} {
		client := connect(kgo.ProducerBatchMaxBytes(2<<20), kgo.ProducerBatchCompression(codec))
		for i := range 5 {
			produce(ctx, client, &kgo.Record{Topic: topic, Value: bytes.Repeat([]byte{byte('a' + i)}, 1<<20)})
		}
		client.Close()
	}
	// A reader that asks for less than one record must still get one.
	client := connect(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxPartitionBytes(1000), kgo.FetchMaxBytes(1000))
	defer client.Close()
	for i, record := range poll(ctx, client, 10)[0] {
		expect(len(record.Value) == 1<<20 && record.Value[0] == byte('a'+i%5) && record.Value[1<<20-1] == byte('a'+i%5),
			"record %d came back as %d bytes", i, len(record.Value))
	}
}

func acksNoneAndLeader(ctx context.Context) {
	topic := name("acks")
	createTopic(ctx, topic, 1, nil)
	written := int64(0)
	for _, acks := range []kgo.Acks{kgo.NoAck(), kgo.LeaderAck(), kgo.AllISRAcks()} {
		client := connect(kgo.DisableIdempotentWrite(), kgo.RequiredAcks(acks))
		for i := range 50 {
			produce(ctx, client, &kgo.Record{Topic: topic, Value: []byte(fmt.Sprint(i))})
		}
		written += 50
		eventually(ctx, func() string {
			ends, err := admin.ListEndOffsets(ctx, topic)
			must(err, "end offsets")
			if end, _ := ends.Lookup(topic, 0); end.Offset != written {
				return fmt.Sprintf("the log ends at %d, expected %d", end.Offset, written)
			}
			return ""
		})
		client.Close()
	}
	for i, record := range consume(ctx, topic, 150)[0] {
		expect(record.Offset == int64(i), "offset %d at place %d", record.Offset, i)
		expect(string(record.Value) == fmt.Sprint(i%50), "value %s at place %d", record.Value, i)
	}
}

// One topic through all rounds: producer ids of earlier processes must not stand in the way of later ones.
func idempotentProducer(ctx context.Context) {
	topic := name("idempotent")
	if round == 0 {
		createTopic(ctx, topic, 1, nil)
	}
	client := connect(kgo.ProducerLinger(0))
	defer client.Close()
	for i := range 300 {
		record := &kgo.Record{Topic: topic, Value: []byte(fmt.Sprint(round*300 + i))}
		client.Produce(ctx, record, func(_ *kgo.Record, err error) {
			if err != nil {
				fmt.Println("producing:", err)
			}
		})
	}
	must(client.Flush(ctx), "flush")
	records := consume(ctx, topic, (round+1)*300)[0]
	for i, record := range records {
		expect(string(record.Value) == fmt.Sprint(i), "value %s at place %d", record.Value, i)
	}
	id := records[len(records)-1].ProducerID
	expect(id >= 0, "the batch has no producer id")
	var topics kadm.TopicsSet
	topics.Add(topic, 0)
	described, err := admin.DescribeProducers(ctx, topics)
	must(err, "describing producers")
	found := false
	for _, producer := range described.SortedProducers() {
		found = found || producer.ProducerID == id && producer.LastSequence == 299
	}
	expect(found, "producer %d is not described with last sequence 299: %v", id, described.SortedProducers())
}

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

// Every client writes forty records with every codec that it has; every client reads them all.
func codecsWrite(ctx context.Context) {
	for codec, compression := range codecs {
		topic := run + "-codec-go-" + codec
		createTopic(ctx, topic, 1, nil)
		client := connect(kgo.ProducerBatchCompression(compression), kgo.ProducerLinger(50*time.Millisecond))
		var records []*kgo.Record
		for i := range 40 {
			records = append(records, &kgo.Record{
				Topic: topic, Key: []byte(fmt.Sprintf("k%d", i)), Value: []byte(codecValue("go", codec, i)),
				Headers: []kgo.RecordHeader{{Key: "n", Value: []byte(fmt.Sprint(i))}},
			})
		}
		produce(ctx, client, records...)
		client.Close()
	}
}

func codecValue(writer, codec string, i int) string {
	return fmt.Sprintf("%s/%s/%d/", writer, codec, i) + strings.Repeat("all work and no play ", i)
}

// In the first round only what this client wrote is sure to be there; later, everybody's.
func codecsRead(ctx context.Context) {
	prefix := run + "-codec-"
	if round == 0 {
		prefix += "go-"
	}
	topics, err := admin.ListTopics(ctx)
	must(err, "listing")
	read := 0
	for topic := range topics {
		if !strings.HasPrefix(topic, prefix) {
			continue
		}
		parts := strings.Split(topic, "-")
		writer, codec := parts[2], parts[3]
		for i, record := range consume(ctx, topic, 40)[0] {
			expect(string(record.Key) == fmt.Sprintf("k%d", i), "%s: key %s at %d", topic, record.Key, i)
			expect(string(record.Value) == codecValue(writer, codec, i), "%s: value at %d is %.60q", topic, i, record.Value)
			expect(len(record.Headers) == 1 && string(record.Headers[0].Value) == fmt.Sprint(i), "%s: headers at %d", topic, i)
		}
		read++
	}
	expect(read >= len(codecs), "read %d topics", read)
}

const segmentRecords = 6000

// Several segments and all codecs in one partition; the notes let the harness compare with what kafka-dump-log finds.
func segmentsWrite(ctx context.Context) {
	topic := name("segments")
	createTopic(ctx, topic, 1, map[string]*string{"segment.bytes": ptr("1048576"), "index.interval.bytes": ptr("2048")})
	written := 0
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd", "none"} {
		client := connect(kgo.ProducerBatchCompression(codecs[codec]), kgo.ProducerBatchMaxBytes(64<<10))
		var records []*kgo.Record
		for range segmentRecords / 6 {
			value := fmt.Sprintf("%d/", written) + noise(written, 800)
			records = append(records, &kgo.Record{Topic: topic, Key: []byte(fmt.Sprint(written)), Value: []byte(value)})
			written++
		}
		produce(ctx, client, records...)
		client.Close()
	}
	must(os.WriteFile(filepath.Join(os.Getenv("NOTES"), topic+"-0"), []byte(fmt.Sprint(written)), 0o644), "writing the note")
}

// noise is text that compresses badly, different for every seed.
func noise(seed, length int) string {
	state := uint64(seed)*0x9e3779b97f4a7c15 + 1
	text := make([]byte, length)
	for i := range text {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		text[i] = byte('!' + state%90)
	}
	return string(text)
}

func segmentsRead(ctx context.Context) {
	for i, record := range consume(ctx, name("segments"), segmentRecords)[0] {
		expect(record.Offset == int64(i), "offset %d at place %d", record.Offset, i)
		expect(string(record.Value) == fmt.Sprintf("%d/", i)+noise(i, 800), "value at offset %d is %.40q", i, record.Value)
	}
}
