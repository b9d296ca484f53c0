// Readers with read_committed, which write down all that they read: `reader BOOTSTRAP CLIENT live|final TOPIC...`.
//
// A live one reads while others write, and ends when its input ends. The final one reads whole topics. It first waits until the last stable
// offset of every partition has reached its end, and says `stable` when it was so: a transaction that nobody ends would keep all readers
// back for ever.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"ottla/tests/clients/go/events"
)

func main() {
	bootstrap, client, mode, topics := os.Args[1], os.Args[2], os.Args[3], os.Args[4:]
	log := events.New(client)
	reader, err := kgo.NewClient(
		kgo.SeedBrokers(events.Seeds(bootstrap)...), kgo.ClientID(client), kgo.ConsumeTopics(topics...), kgo.KeepControlRecords(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(100*time.Millisecond),
	)
	events.Must(err, "new client")
	if mode == "live" {
		live(reader, log)
	} else {
		final(reader, log, topics)
	}
	fmt.Println("read")
}

// live reads until its input ends.
func live(reader *kgo.Client, log *events.Log) {
	ctx, cancel := context.WithCancel(context.Background())
	finish := events.Finish()
	go func() {
		<-finish
		cancel()
	}()
	for ctx.Err() == nil {
		fetches := reader.PollFetches(ctx)
		fetches.EachError(func(topic string, partition int32, err error) { fmt.Println(topic, partition, err) })
		fetches.EachPartition(func(partition kgo.FetchTopicPartition) { write(log, partition, false) })
	}
}

// final reads all there is.
func final(reader *kgo.Client, log *events.Log, topics []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	ends := stable(ctx, kadm.NewClient(reader), topics)
	starts, err := kadm.NewClient(reader).ListStartOffsets(ctx, topics...)
	events.Must(err, "start offsets")
	left := 0
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(end.Topic, end.Partition)
		if start.Offset < end.Offset {
			left++
		}
	})
	for left > 0 {
		fetches := reader.PollFetches(ctx)
		events.Must(ctx.Err(), fmt.Sprintf("reading, with %d partitions to go", left))
		fetches.EachError(func(topic string, partition int32, err error) { fmt.Println(topic, partition, err) })
		fetches.EachPartition(func(partition kgo.FetchTopicPartition) {
			for _, record := range partition.Records {
				if end, _ := ends.Lookup(partition.Topic, partition.Partition); record.Offset == end.Offset-1 {
					left--
				}
			}
			write(log, partition, true)
		})
	}
}

// write writes down what was read of a partition.
func write(log *events.Log, partition kgo.FetchTopicPartition, isFinal bool) {
	records := [][2]any{}
	for _, record := range partition.Records {
		if !record.Attrs.IsControl() {
			records = append(records, [2]any{record.Offset, string(record.Value)})
		}
	}
	log.Write("polled", events.Fields{
		"topic": partition.Topic, "partition": partition.Partition, "records": records, "isolation": "committed", "final": isFinal,
	})
}

// stable waits until nothing is undecided, and returns the ends.
func stable(ctx context.Context, admin *kadm.Client, topics []string) kadm.ListedOffsets {
	for {
		ends, err := admin.ListEndOffsets(ctx, topics...)
		events.Must(err, "end offsets")
		events.Must(ends.Error(), "end offsets")
		committed, err := admin.ListCommittedOffsets(ctx, topics...)
		events.Must(err, "last stable offsets")
		undecided := ""
		ends.Each(func(end kadm.ListedOffset) {
			if last, _ := committed.Lookup(end.Topic, end.Partition); last.Offset != end.Offset {
				undecided = fmt.Sprintf("%s-%d is stable up to %d of %d", end.Topic, end.Partition, last.Offset, end.Offset)
			}
		})
		if undecided == "" {
			fmt.Println("stable")
			return ends
		}
		fmt.Println(undecided)
		events.Must(ctx.Err(), undecided)
		time.Sleep(100 * time.Millisecond)
	}
}
