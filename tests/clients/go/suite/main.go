// The suite of franz-go: producing, groups, administration and errors, as a Go program would meet them.
//
// Called as `suite BOOTSTRAP RUN ROUND [CASE]`; see tests/clients/README.md for the rounds and for the lines printed.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	bootstrap string
	run       string
	round     int
	admin     *kadm.Client
)

// A check is one case. It fails by panicking with the reason (see must and check), so that cases read as plain steps.
type check struct {
	name   string
	rounds []int
	do     func(ctx context.Context)
}

var (
	first = []int{0}
	later = []int{1, 2}
	every = []int{0, 1, 2}
)

func main() {
	bootstrap, run = os.Args[1], os.Args[2]
	round, _ = strconv.Atoi(os.Args[3])
	only := ""
	if len(os.Args) > 4 {
		only = os.Args[4]
	}
	client := connect()
	admin = kadm.NewClient(client)
	failed := false
	for _, c := range checks() {
		// The thousand topics keep a broker busy: they are run by themselves, when nobody else is measured by a clock.
		alone := c.name == "thousand-topics" && only != c.name
		if inRound(c.rounds) && strings.Contains(c.name, only) && !alone {
			failed = !perform(c) || failed
		}
	}
	client.Close()
	if failed {
		os.Exit(1)
	}
}

func checks() []check {
	return []check{
		{"json-autocreate", first, jsonAutocreate},
		{"group-earliest", first, groupEarliest},
		{"headers-and-nulls", first, headersAndNulls},
		{"records-of-1-mib", first, recordsOfOneMib},
		{"acks-none-and-leader", first, acksNoneAndLeader},
		{"idempotent-producer", every, idempotentProducer},
		{"codecs-write", first, codecsWrite},
		{"codecs-read", every, codecsRead},
		{"segments-write", first, segmentsWrite},
		{"segments-read", every, segmentsRead},
		{"rebalance-range", first, rebalanceRange},
		{"rebalance-cooperative", first, rebalanceCooperative},
		{"static-member-restart", first, staticMemberRestart},
		{"resume-from-commit", every, resumeFromCommit},
		{"admin-topics", first, adminTopics},
		{"admin-partitions", first, adminPartitions},
		{"admin-configs", first, adminConfigs},
		{"admin-kept", every, adminKept},
		{"admin-delete-records", first, adminDeleteRecords},
		{"admin-cluster", every, adminCluster},
		{"admin-groups", first, adminGroups},
		{"admin-log-dirs", every, adminLogDirs},
		{"invalid-topics", first, invalidTopics},
		{"unknown-topic", every, unknownTopic},
		{"too-large", first, tooLarge},
		{"offset-out-of-range", first, offsetOutOfRange},
		{"offsets-by-timestamp", first, offsetsByTimestamp},
		{"leader-epochs", first, leaderEpochs},
		{"thousand-topics", every, thousandTopics},
	}
}

func inRound(rounds []int) bool {
	for _, r := range rounds {
		if r == round {
			return true
		}
	}
	return false
}

func perform(c check) (ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	begun := time.Now()
	defer func() {
		if reason := recover(); reason != nil {
			fmt.Printf("FAIL %s: %v\n", c.name, reason)
			ok = false
		}
	}()
	c.do(ctx)
	fmt.Printf("ok %s (%.1f s)\n", c.name, time.Since(begun).Seconds())
	return true
}

// name makes a topic or group of this run.
func name(part string) string { return run + "-go-" + part }

func connect(options ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(bootstrap),
		kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.FetchMaxWait(500 * time.Millisecond),
		// A topic is created before every broker knows of it: ask again for a while.
		kgo.UnknownTopicRetries(-1),
	}, options...)...)
	must(err, "new client")
	return client
}

func must(err error, doing string) {
	if err != nil {
		panic(fmt.Sprintf("%s: %v", doing, err))
	}
}

func expect(true_ bool, format string, arguments ...any) {
	if !true_ {
		panic(fmt.Sprintf(format, arguments...))
	}
}

func mustFailWith(err, wanted error, doing string) {
	if !errors.Is(err, wanted) {
		panic(fmt.Sprintf("%s: expected %v, got %v", doing, wanted, err))
	}
}

// eventually polls until the question is answered with "" and fails with the last answer.
func eventually(ctx context.Context, question func() string) {
	deadline := time.Now().Add(30 * time.Second)
	for {
		answer := question()
		if answer == "" {
			return
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			panic("waited in vain: " + answer)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func createTopic(ctx context.Context, topic string, partitions int32, configs map[string]*string) {
	_, err := admin.CreateTopic(ctx, partitions, 1, configs, topic)
	must(err, "creating "+topic)
	eventuallyServed(ctx, topic)
}

// eventuallyServed waits until metadata tells a leader for every partition of these topics: creation returns earlier than that.
func eventuallyServed(ctx context.Context, topics ...string) {
	eventually(ctx, func() string {
		details, err := admin.ListTopics(ctx, topics...)
		must(err, "listing")
		for _, topic := range details {
			if topic.Err != nil {
				return fmt.Sprintf("%s: %v", topic.Topic, topic.Err)
			}
			for _, partition := range topic.Partitions {
				if partition.Err != nil || partition.Leader < 0 {
					return fmt.Sprintf("%s-%d: %v", topic.Topic, partition.Partition, partition.Err)
				}
			}
		}
		return ""
	})
}

func produce(ctx context.Context, client *kgo.Client, records ...*kgo.Record) {
	must(client.ProduceSync(ctx, records...).FirstErr(), "producing")
}

// consume reads count records of the topic from its start, by partition and in order.
func consume(ctx context.Context, topic string, count int) map[int32][]*kgo.Record {
	client := connect(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer client.Close()
	return poll(ctx, client, count)
}

func poll(ctx context.Context, client *kgo.Client, count int) map[int32][]*kgo.Record {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	found := map[int32][]*kgo.Record{}
	for total := 0; total < count; {
		fetches := client.PollRecords(ctx, count-total)
		must(ctx.Err(), fmt.Sprintf("consuming: %d of %d records", total, count))
		must(fetches.Err0(), "consuming")
		fetches.EachError(func(topic string, partition int32, err error) { must(err, "consuming "+topic) })
		fetches.EachRecord(func(record *kgo.Record) {
			found[record.Partition] = append(found[record.Partition], record)
			total++
		})
	}
	return found
}

func ptr(text string) *string { return &text }
