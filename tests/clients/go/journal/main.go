// A producer with a memory, for `cargo xtask crash`: what was acknowledged must be in the log, once, there, in order.
//
// Called as `journal BOOTSTRAP RATE [BYTES]`. Idempotent, acks=all, never giving up, it writes numbered records (of 256 bytes, or as many
// as it is told) to eight partitions and prints `acked N` as acknowledgements arrive, and `waited TIME MS` if one took long. A line on its input stops it: it flushes, reads everything back and compares.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"ottla/tests/clients/go/events"
)

const (
	topic      = "journal"
	partitions = 8
	// An acknowledgement that takes longer is told.
	longWait = 500 * time.Millisecond
)

var valueBytes = 256

// A ledger remembers one partition: the offset at which each number was acknowledged. Acknowledgements of one partition
// come from one goroutine at a time, but not always the same one, hence the lock.
type ledger struct {
	sync.Mutex
	offsets  []int64 // by number; -1: never acknowledged
	failures int
}

func (l *ledger) acknowledged(number int, offset int64) {
	l.Lock()
	defer l.Unlock()
	for len(l.offsets) <= number {
		l.offsets = append(l.offsets, -1)
	}
	l.offsets[number] = offset
}

func main() {
	bootstrap := os.Args[1]
	rate, err := strconv.Atoi(os.Args[2])
	must(err, "rate")
	if len(os.Args) > 3 {
		valueBytes, err = strconv.Atoi(os.Args[3])
		must(err, "bytes")
	}
	ctx := context.Background()

	plain := producer(bootstrap, kgo.NoCompression())
	packed := producer(bootstrap, kgo.Lz4Compression())
	admin := kadm.NewClient(plain)
	_, err = admin.CreateTopic(ctx, partitions, -1, map[string]*string{"segment.bytes": ptr("33554432")}, topic)
	must(err, "creating the topic")

	var ledgers [partitions]ledger
	var acked, waited atomic.Int64
	stop := make(chan struct{})
	go func() {
		bufio.NewReader(os.Stdin).ReadString('\n')
		close(stop)
	}()
	go func() {
		for last := int64(0); ; time.Sleep(5 * time.Millisecond) {
			if now := acked.Load(); now != last {
				if wait := time.Duration(waited.Swap(0)); wait > longWait {
					fmt.Println("waited", events.Now(), wait.Milliseconds())
				}
				fmt.Println("acked", now)
				last = now
			}
		}
	}()

	sent := write(ctx, rate, stop, [2]*kgo.Client{plain, packed}, &ledgers, &acked, &waited)
	must(plain.Flush(ctx), "flush")
	must(packed.Flush(ctx), "flush")
	if !compare(ctx, bootstrap, sent, &ledgers) {
		os.Exit(1)
	}
}

func producer(bootstrap string, codec kgo.CompressionCodec) *kgo.Client {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(events.Seeds(bootstrap)...),
		kgo.DefaultProduceTopic(topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codec),
		kgo.ProducerBatchMaxBytes(64<<10),
		kgo.ProducerLinger(time.Millisecond),
		kgo.MaxBufferedRecords(5000),
		kgo.MetadataMinAge(10*time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
		// A broker may learn of the new topic a moment after the others.
		kgo.UnknownTopicRetries(-1),
		kgo.StopProducerOnDataLossDetected(),
	)
	must(err, "new client")
	return client
}

// write offers records at the rate until it is told to stop, and returns how many went to each partition. When the broker
// is away, Produce blocks at the bound of buffered records.
func write(ctx context.Context, rate int, stop chan struct{}, clients [2]*kgo.Client, ledgers *[partitions]ledger, acked, waited *atomic.Int64) [partitions]int {
	var sent [partitions]int
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return sent
		case <-tick.C:
		}
		for range max(rate/200, 1) {
			partition := rand.Intn(partitions)
			number := sent[partition]
			sent[partition]++
			record := &kgo.Record{Partition: int32(partition), Value: value(partition, number)}
			begun := time.Now()
			clients[partition%2].Produce(ctx, record, func(record *kgo.Record, err error) {
				ledger := &ledgers[record.Partition]
				if err != nil {
					ledger.Lock()
					ledger.failures++
					ledger.Unlock()
					fmt.Printf("record %d of partition %d failed: %v\n", number, record.Partition, err)
					return
				}
				ledger.acknowledged(number, record.Offset)
				for took := int64(time.Since(begun)); ; {
					if before := waited.Load(); took <= before || waited.CompareAndSwap(before, took) {
						break
					}
				}
				acked.Add(1)
			})
		}
	}
}

// value holds partition and number, then bytes that depend on both.
func value(partition, number int) []byte {
	value := make([]byte, valueBytes)
	binary.BigEndian.PutUint64(value, uint64(partition))
	binary.BigEndian.PutUint64(value[8:], uint64(number))
	for i := 16; i < valueBytes; i++ {
		value[i] = byte(number>>(i%16)) ^ byte(partition*i)
	}
	return value
}

// compare consumes all partitions to their ends. Every complaint is one line; the last line is the summary.
func compare(ctx context.Context, bootstrap string, sent [partitions]int, ledgers *[partitions]ledger) bool {
	client, err := kgo.NewClient(kgo.SeedBrokers(events.Seeds(bootstrap)...), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxPartitionBytes(8<<20))
	must(err, "new client")
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	must(err, "end offsets")
	complaints := 0
	complain := func(format string, arguments ...any) {
		if complaints++; complaints <= 20 {
			fmt.Printf("BROKEN "+format+"\n", arguments...)
		}
	}
	var next, last [partitions]int64 // the offset expected next; the number read last
	for p := range last {
		last[p] = -1
	}
	total, acknowledged := int64(0), 0
	ends.Each(func(offset kadm.ListedOffset) { total += offset.Offset })
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	for read := int64(0); read < total; {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			complain("reading stopped at %d of %d records: %v", read, total, err)
			break
		}
		fetches.EachError(func(_ string, partition int32, err error) { complain("reading partition %d: %v", partition, err) })
		fetches.EachRecord(func(record *kgo.Record) {
			read++
			p, number := int(record.Partition), int64(-1)
			if len(record.Value) == valueBytes {
				number = int64(binary.BigEndian.Uint64(record.Value[8:]))
			}
			switch {
			case record.Offset != next[p]:
				complain("partition %d: offset %d where %d was to come", p, record.Offset, next[p])
			case number < 0 || string(record.Value) != string(value(p, int(number))):
				complain("partition %d: the record at offset %d is damaged", p, record.Offset)
			case number <= last[p]:
				complain("partition %d: record %d at offset %d after record %d: twice, or out of order", p, number, record.Offset, last[p])
			default:
				missing(p, last[p]+1, number, &ledgers[p], complain)
				if where := ledgers[p].at(number); where >= 0 && where != record.Offset {
					complain("partition %d: record %d was acknowledged at offset %d and is at %d", p, number, where, record.Offset)
				}
				last[p] = number
			}
			next[p] = record.Offset + 1
		})
	}
	for p := range ledgers {
		missing(p, last[p]+1, int64(len(ledgers[p].offsets)), &ledgers[p], complain)
		for _, offset := range ledgers[p].offsets {
			if offset >= 0 {
				acknowledged++
			}
		}
		if ledgers[p].failures > 0 {
			complain("partition %d: %d of %d records were refused", p, ledgers[p].failures, sent[p])
		}
	}
	fmt.Printf("%d acknowledged, %d in the log, %d broken promises\n", acknowledged, total, complaints)
	return complaints == 0
}

func (l *ledger) at(number int64) int64 {
	if number >= int64(len(l.offsets)) {
		return -1
	}
	return l.offsets[number]
}

// missing complains about acknowledged records among those numbers that the log does not have.
func missing(partition int, from, to int64, l *ledger, complain func(string, ...any)) {
	for number := from; number < to; number++ {
		if offset := l.at(number); offset >= 0 {
			complain("partition %d: record %d, acknowledged at offset %d, is missing", partition, number, offset)
		}
	}
}

func must(err error, doing string) {
	if err != nil {
		fmt.Printf("BROKEN %s: %v\n", doing, err)
		os.Exit(1)
	}
}

func ptr(text string) *string { return &text }
