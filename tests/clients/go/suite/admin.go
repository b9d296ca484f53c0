package main

// Administration: topics, partitions, configurations, records, log directories, and the errors that say no.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func adminTopics(ctx context.Context) {
	topic := name("topics")
	created, err := admin.CreateTopic(ctx, 4, 1, map[string]*string{"retention.ms": ptr("123456")}, topic)
	must(err, "creating")
	eventuallyServed(ctx, topic)
	expect(created.NumPartitions == 4 && created.ReplicationFactor == 1, "created as %+v", created)
	expect(created.ID != kadm.TopicID{}, "no topic id")
	retention, ok := created.Configs["retention.ms"]
	expect(ok && retention.MaybeValue() == "123456", "created with %+v", created.Configs)
	_, err = admin.CreateTopic(ctx, 4, 1, nil, topic)
	mustFailWith(err, kerr.TopicAlreadyExists, "creating again")

	details, err := admin.ListTopics(ctx, topic)
	must(err, "describing")
	d := details[topic]
	expect(d.ID == created.ID && len(d.Partitions) == 4 && !d.IsInternal, "described as %+v", d)
	for _, p := range d.Partitions {
		expect(p.Err == nil && p.Leader == p.Replicas[0] && len(p.ISR) == 1, "partition %+v", p)
	}
	defaults, err := admin.CreateTopic(ctx, -1, -1, nil, topic+"-defaults")
	must(err, "creating with defaults")
	expect(defaults.NumPartitions == 3, "num.partitions is 3, created %d", defaults.NumPartitions)

	_, err = admin.ValidateCreateTopics(ctx, 1, 1, nil, topic+"-dry")
	must(err, "validating")
	details, err = admin.ListTopics(ctx)
	must(err, "listing")
	expect(!details.Has(topic+"-dry"), "validate-only created the topic")

	_, err = admin.DeleteTopic(ctx, topic)
	must(err, "deleting")
	eventually(ctx, func() string {
		details, err := admin.ListTopics(ctx)
		must(err, "listing")
		if details.Has(topic) {
			return "the deleted topic is listed"
		}
		return ""
	})
	_, err = admin.DeleteTopic(ctx, topic)
	mustFailWith(err, kerr.UnknownTopicOrPartition, "deleting again")
	again, err := admin.CreateTopic(ctx, 1, 1, nil, topic)
	must(err, "creating once more")
	eventuallyServed(ctx, topic)
	expect(again.ID != created.ID, "the topic id was used again")
	ends, err := admin.ListEndOffsets(ctx, topic)
	must(err, "offsets of the new topic")
	end, _ := ends.Lookup(topic, 0)
	expect(end.Offset == 0, "the new topic ends at %d", end.Offset)
}

func invalidTopics(ctx context.Context) {
	for _, bad := range []string{".", "..", "a b", "semi;colon", "ü", strings.Repeat("x", 250)} {
		_, err := admin.CreateTopic(ctx, 1, 1, nil, bad)
		mustFailWith(err, kerr.InvalidTopicException, fmt.Sprintf("creating %q", bad))
	}
	createTopic(ctx, name("long")+strings.Repeat("x", 249-len(name("long"))), 1, nil)
	createTopic(ctx, name("collide.a"), 1, nil)
	_, err := admin.CreateTopic(ctx, 1, 1, nil, name("collide_a"))
	mustFailWith(err, kerr.InvalidTopicException, "creating a topic whose metrics collide")
	_, err = admin.CreateTopic(ctx, 0, 1, nil, name("none"))
	mustFailWith(err, kerr.InvalidPartitions, "creating without partitions")
	_, err = admin.CreateTopic(ctx, 1, 2, nil, name("two"))
	mustFailWith(err, kerr.InvalidReplicationFactor, "two replicas on one broker")
	_, err = admin.CreateTopic(ctx, 1, 0, nil, name("zero"))
	mustFailWith(err, kerr.InvalidReplicationFactor, "no replicas")
	_, err = admin.CreateTopic(ctx, 1, 1, map[string]*string{"no.such.key": ptr("1")}, name("key"))
	mustFailWith(err, kerr.InvalidConfig, "unknown configuration")
	_, err = admin.CreateTopic(ctx, 1, 1, map[string]*string{"retention.ms": ptr("soon")}, name("value"))
	mustFailWith(err, kerr.InvalidConfig, "invalid configuration")
}

func adminPartitions(ctx context.Context) {
	topic := name("partitions")
	createTopic(ctx, topic, 2, nil)
	set := func(count int) error {
		responses, err := admin.UpdatePartitions(ctx, count, topic)
		return errors.Join(err, responses[topic].Err)
	}
	must(set(5), "from 2 to 5")
	eventually(ctx, func() string {
		details, err := admin.ListTopics(ctx, topic)
		must(err, "describing")
		if count := len(details[topic].Partitions); count != 5 {
			return fmt.Sprintf("%d partitions", count)
		}
		return ""
	})
	mustFailWith(set(5), kerr.InvalidPartitions, "from 5 to 5")
	mustFailWith(set(3), kerr.InvalidPartitions, "from 5 to 3")
	responses, err := admin.UpdatePartitions(ctx, 2, name("partitions-of-nothing"))
	mustFailWith(errors.Join(err, responses.Error()), kerr.UnknownTopicOrPartition, "partitions of an unknown topic")
	client := connect(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer client.Close()
	for partition := range int32(5) {
		produce(ctx, client, &kgo.Record{Topic: topic, Partition: partition, Value: []byte("x")})
	}
	expect(len(consume(ctx, topic, 5)) == 5, "not every new partition has its record")
}

func configOf(ctx context.Context, topic, key string) *kadm.Config {
	described, err := admin.DescribeTopicConfigs(ctx, topic)
	must(err, "describing configuration")
	resource, err := described.On(topic, nil)
	must(err, "describing configuration")
	must(resource.Err, "describing configuration")
	for _, config := range resource.Configs {
		if config.Key == key {
			return &config
		}
	}
	panic("no such key described: " + key)
}

// eventuallyConfigured waits for a value: brokers learn of a change a moment after it is acknowledged.
func eventuallyConfigured(ctx context.Context, topic, key, value string) {
	eventually(ctx, func() string {
		if found := configOf(ctx, topic, key).MaybeValue(); found != value {
			return fmt.Sprintf("%s is %s, expected %s", key, found, value)
		}
		return ""
	})
}

func alterConfig(ctx context.Context, topic string, changes ...kadm.AlterConfig) error {
	responses, err := admin.AlterTopicConfigs(ctx, changes, topic)
	must(err, "altering")
	response, err := responses.On(topic, nil)
	return errors.Join(err, response.Err)
}

func adminConfigs(ctx context.Context) {
	topic := name("configs")
	createTopic(ctx, topic, 1, map[string]*string{"segment.bytes": ptr("2000000")})
	expect(configOf(ctx, topic, "segment.bytes").MaybeValue() == "2000000", "segment.bytes was not taken")
	byDefault := configOf(ctx, topic, "retention.ms")
	expect(byDefault.MaybeValue() == "604800000", "retention.ms is %s by default", byDefault.MaybeValue())
	expect(byDefault.Source.String() == "DEFAULT_CONFIG", "its source is %s", byDefault.Source)

	must(alterConfig(ctx, topic, kadm.AlterConfig{Op: kadm.SetConfig, Name: "retention.ms", Value: ptr("99000")}), "set")
	eventuallyConfigured(ctx, topic, "retention.ms", "99000")
	changed := configOf(ctx, topic, "retention.ms")
	expect(changed.Source.String() == "DYNAMIC_TOPIC_CONFIG", "its source is now %s", changed.Source)
	expect(configOf(ctx, topic, "segment.bytes").MaybeValue() == "2000000", "an incremental change forgot the rest")

	must(alterConfig(ctx, topic, kadm.AlterConfig{Op: kadm.AppendConfig, Name: "cleanup.policy", Value: ptr("compact")}), "append")
	eventuallyConfigured(ctx, topic, "cleanup.policy", "delete,compact")
	must(alterConfig(ctx, topic, kadm.AlterConfig{Op: kadm.SubtractConfig, Name: "cleanup.policy", Value: ptr("delete")}), "subtract")
	eventuallyConfigured(ctx, topic, "cleanup.policy", "compact")
	must(alterConfig(ctx, topic, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: "retention.ms"}), "delete")
	eventuallyConfigured(ctx, topic, "retention.ms", "604800000")

	bad := []kadm.AlterConfig{
		{Op: kadm.SetConfig, Name: "retention.ms", Value: ptr("soon")},
		{Op: kadm.SetConfig, Name: "no.such.key", Value: ptr("1")},
		{Op: kadm.SetConfig, Name: "cleanup.policy", Value: ptr("shred")},
		{Op: kadm.AppendConfig, Name: "retention.ms", Value: ptr("1")},
	}
	for _, change := range bad {
		mustFailWith(alterConfig(ctx, topic, change), kerr.InvalidConfig, fmt.Sprintf("%s %s", change.Name, *change.Value))
	}
	good := kadm.AlterConfig{Op: kadm.SetConfig, Name: "retention.ms", Value: ptr("1000")}
	mustFailWith(alterConfig(ctx, name("configs-of-nothing"), good), kerr.UnknownTopicOrPartition, "an unknown topic")

	responses, err := admin.AlterTopicConfigsState(ctx, []kadm.AlterConfig{{Name: "max.message.bytes", Value: ptr("54321")}}, topic)
	must(err, "replacing all")
	response, err := responses.On(topic, nil)
	must(errors.Join(err, response.Err), "replacing all")
	eventuallyConfigured(ctx, topic, "max.message.bytes", "54321")
	expect(configOf(ctx, topic, "segment.bytes").MaybeValue() != "2000000", "a replaced configuration keeps old values")
}

// What an administrator did before a restart is there after it.
func adminKept(ctx context.Context) {
	topic, gone := name("kept"), name("gone")
	if round == 0 {
		createTopic(ctx, topic, 2, map[string]*string{"retention.bytes": ptr("7777777")})
		must(alterConfig(ctx, topic, kadm.AlterConfig{Op: kadm.SetConfig, Name: "max.message.bytes", Value: ptr("765432")}), "set")
		_, err := admin.UpdatePartitions(ctx, 3, topic)
		must(err, "adding a partition")
		createTopic(ctx, gone, 1, nil)
		_, err = admin.DeleteTopic(ctx, gone)
		must(err, "deleting")
		return
	}
	details, err := admin.ListTopics(ctx)
	must(err, "listing")
	expect(!details.Has(gone), "a deleted topic is back")
	expect(len(details[topic].Partitions) == 3, "%d partitions", len(details[topic].Partitions))
	for _, p := range details[topic].Partitions {
		expect(p.Err == nil && p.Leader >= 0, "partition %d after the restart: %v, leader %d", p.Partition, p.Err, p.Leader)
	}
	expect(configOf(ctx, topic, "retention.bytes").MaybeValue() == "7777777", "retention.bytes is lost")
	expect(configOf(ctx, topic, "max.message.bytes").MaybeValue() == "765432", "max.message.bytes is lost")
}

func adminDeleteRecords(ctx context.Context) {
	topic := name("delete-records")
	createTopic(ctx, topic, 1, nil)
	client := connect()
	defer client.Close()
	produce(ctx, client, numbered(topic, 0, 0, 100)...)
	var offsets kadm.Offsets
	offsets.AddOffset(topic, 0, 40, -1)
	responses, err := admin.DeleteRecords(ctx, offsets)
	must(err, "deleting records")
	deleted, _ := responses.Lookup(topic, 0)
	expect(deleted.Err == nil && deleted.LowWatermark == 40, "%+v", deleted)
	starts, err := admin.ListStartOffsets(ctx, topic)
	must(err, "start offsets")
	start, _ := starts.Lookup(topic, 0)
	expect(start.Offset == 40, "the log begins at %d", start.Offset)
	records := consume(ctx, topic, 60)[0]
	expect(records[0].Offset == 40 && string(records[0].Value) == "40", "the first record is %+v", records[0])
	offsets = nil
	offsets.AddOffset(topic, 0, 101, -1)
	responses, err = admin.DeleteRecords(ctx, offsets)
	deleted, _ = responses.Lookup(topic, 0)
	mustFailWith(errors.Join(err, deleted.Err), kerr.OffsetOutOfRange, "deleting beyond the end")
	offsets = nil
	offsets.AddOffset(topic, 0, -1, -1)
	responses, err = admin.DeleteRecords(ctx, offsets)
	must(err, "deleting all")
	deleted, _ = responses.Lookup(topic, 0)
	expect(deleted.LowWatermark == 100, "%+v", deleted)
}

func adminCluster(ctx context.Context) {
	metadata, err := admin.BrokerMetadata(ctx)
	must(err, "metadata")
	expect(metadata.Cluster != "" && len(metadata.Brokers) == 1, "%+v", metadata)
	expect(metadata.Controller == metadata.Brokers[0].NodeID, "controller %d", metadata.Controller)
	expect(fmt.Sprintf("%s:%d", metadata.Brokers[0].Host, metadata.Brokers[0].Port) == bootstrap, "advertised as %+v", metadata.Brokers[0])
	versions, err := admin.ApiVersions(ctx)
	must(err, "api versions")
	for _, v := range versions {
		must(v.Err, "api versions")
		for key, wanted := range map[int16]int16{0: 13, 1: 17, 2: 10, 3: 12, 8: 9, 9: 9, 10: 6, 11: 9, 18: 4, 19: 7} {
			highest, ok := v.KeyMaxVersion(key)
			expect(ok && highest >= wanted, "api %d is served up to version %d, expected %d", key, highest, wanted)
		}
	}
}

func adminLogDirs(ctx context.Context) {
	dirs, err := admin.DescribeAllLogDirs(ctx, nil)
	must(err, "describing log directories")
	for _, described := range dirs {
		segments, found := described.LookupPartition(name("segments"), 0)
		expect(found, "the partition is in no directory")
		expect(segments.Size > 3_000_000, "its size is said to be %d", segments.Size)
		expect(!segments.IsFuture, "it is said to be moving")
	}
}

func unknownTopic(ctx context.Context) {
	topic := name("unknown")
	details, err := admin.ListTopics(ctx, topic)
	must(err, "metadata")
	mustFailWith(details[topic].Err, kerr.UnknownTopicOrPartition, "metadata of an unknown topic")
	client := connect(kgo.UnknownTopicRetries(1), kgo.MetadataMinAge(10*time.Millisecond))
	defer client.Close()
	err = client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr()
	mustFailWith(err, kerr.UnknownTopicOrPartition, "producing without auto-creation")
	details, err = admin.ListTopics(ctx)
	must(err, "listing")
	expect(!details.Has(topic), "asking created the topic")
}

func tooLarge(ctx context.Context) {
	topic := name("too-large")
	createTopic(ctx, topic, 1, map[string]*string{"max.message.bytes": ptr("10000")})
	client := connect(kgo.ProducerBatchCompression(kgo.NoCompression()))
	defer client.Close()
	err := client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: make([]byte, 20000)}).FirstErr()
	mustFailWith(err, kerr.MessageTooLarge, "a record above max.message.bytes")
	produce(ctx, client, &kgo.Record{Topic: topic, Value: make([]byte, 5000)})
}

func offsetOutOfRange(ctx context.Context) {
	topic := name("range")
	createTopic(ctx, topic, 1, nil)
	producer := connect()
	defer producer.Close()
	produce(ctx, producer, numbered(topic, 0, 0, 10)...)
	client := connect(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(1000)}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var failure error
	client.PollFetches(ctx).EachError(func(_ string, _ int32, err error) { failure = err })
	mustFailWith(failure, kerr.OffsetOutOfRange, "reading from 1000 of 10")
}

func offsetsByTimestamp(ctx context.Context) {
	topic := name("timestamps")
	createTopic(ctx, topic, 1, nil)
	client := connect(kgo.ProducerLinger(0))
	defer client.Close()
	origin := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	// The greatest timestamp is not the last one.
	for _, seconds := range []int{0, 10, 20, 300, 40, 50} {
		record := &kgo.Record{Topic: topic, Timestamp: origin.Add(time.Duration(seconds) * time.Second), Value: []byte("x")}
		produce(ctx, client, record)
	}
	ask := func(seconds int) int64 {
		listed, err := admin.ListOffsetsAfterMilli(ctx, origin.Add(time.Duration(seconds)*time.Second).UnixMilli(), topic)
		must(err, "offsets by time")
		offset, _ := listed.Lookup(topic, 0)
		must(offset.Err, "offsets by time")
		return offset.Offset
	}
	for seconds, wanted := range map[int]int64{-5: 0, 0: 0, 1: 1, 10: 1, 15: 2, 21: 3, 299: 3, 300: 3} {
		expect(ask(seconds) == wanted, "at %d s: offset %d, expected %d", seconds, ask(seconds), wanted)
	}
	expect(ask(301) == 6, "after the last timestamp: %d, expected the end (6)", ask(301))
	listed, err := admin.ListMaxTimestampOffsets(ctx, topic)
	must(err, "max timestamp")
	greatest, _ := listed.Lookup(topic, 0)
	expect(greatest.Offset == 3 && greatest.Timestamp == origin.Add(300*time.Second).UnixMilli(), "max timestamp: %+v", greatest)
}

func leaderEpochs(ctx context.Context) {
	topic := name("epochs")
	createTopic(ctx, topic, 1, nil)
	client := connect()
	defer client.Close()
	produce(ctx, client, numbered(topic, 0, 0, 10)...)
	epoch := consume(ctx, topic, 10)[0][0].LeaderEpoch
	expect(epoch >= 0, "batches carry no leader epoch")
	var request kadm.OffsetForLeaderEpochRequest
	request.Add(topic, 0, epoch)
	answers, err := admin.OffsetForLeaderEpoch(ctx, request)
	must(err, "asking for the end of the epoch")
	answer := answers[topic][0]
	must(answer.Err, "asking for the end of the epoch")
	expect(answer.LeaderEpoch == epoch && answer.EndOffset == 10, "%+v", answer)
}

func thousandTopics(ctx context.Context) {
	prefix := name("thousand-")
	var topics []string
	for i := range 1000 {
		topics = append(topics, fmt.Sprintf("%s%d", prefix, i))
	}
	if round == 0 {
		for begin := 0; begin < 1000; begin += 250 {
			responses, err := admin.CreateTopics(ctx, 1, 1, nil, topics[begin:begin+250]...)
			must(err, "creating")
			must(responses.Error(), "creating")
		}
		eventuallyServed(ctx, topics...)
		client := connect()
		var records []*kgo.Record
		for _, topic := range topics {
			records = append(records, &kgo.Record{Topic: topic, Value: []byte(topic)})
		}
		produce(ctx, client, records...)
		client.Close()
	}
	if round == 2 {
		responses, err := admin.DeleteTopics(ctx, topics...)
		must(err, "deleting")
		must(responses.Error(), "deleting")
		return
	}
	client := connect(kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer client.Close()
	seen := map[string]bool{}
	for _, records := range poll(ctx, client, 1000) {
		for _, record := range records {
			expect(string(record.Value) == record.Topic, "%s holds %s", record.Topic, record.Value)
			seen[record.Topic] = true
		}
	}
	expect(len(seen) == 1000, "%d topics read", len(seen))
}
