// One member of a group, by franz-go, that writes down all it sees: `member BOOTSTRAP CLIENT GROUP PROTOCOL TOPIC [INSTANCE]`.
//
// A topic that begins with ^ is a pattern. It commits after every poll, and leaves when its input ends.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"ottla/tests/clients/go/events"
)

func main() {
	bootstrap, client, group, protocol, topic := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	log, finish := events.New(client), events.Finish()
	ownership := func(op string) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, member *kgo.Client, partitions map[string][]int32) {
			fields := events.Fields{"group": group, "partitions": pairs(partitions)}
			if op == "assigned" {
				_, fields["generation"] = member.GroupMetadata()
			}
			log.Write(op, fields)
		}
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(events.Seeds(bootstrap)...), kgo.ClientID(client), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(ownership("assigned")), kgo.OnPartitionsRevoked(ownership("revoked")),
		kgo.OnPartitionsLost(ownership("lost")), kgo.MetadataMinAge(10 * time.Millisecond), kgo.MetadataMaxAge(500 * time.Millisecond),
		kgo.FetchMaxWait(100 * time.Millisecond),
	}
	if topic[0] == '^' {
		options = append(options, kgo.ConsumeRegex())
	}
	if protocol == "consumer" {
		options = append(options, kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer()))
	} else {
		options = append(options, kgo.Balancers(kgo.CooperativeStickyBalancer()),
			kgo.SessionTimeout(session()), kgo.HeartbeatInterval(500*time.Millisecond))
	}
	if len(os.Args) > 6 {
		options = append(options, kgo.InstanceID(os.Args[6]))
	}
	member, err := kgo.NewClient(options...)
	events.Must(err, "new client")
	for {
		select {
		case <-finish:
			member.AllowRebalance()
			if err := member.LeaveGroupContext(context.Background()); err != nil {
				fmt.Println("leave:", err)
			}
			member.Close()
			return
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		fetches := member.PollFetches(ctx)
		cancel()
		deliver(log, member, group, fetches)
		member.AllowRebalance()
	}
}

// deliver writes down and commits what was polled.
func deliver(log *events.Log, member *kgo.Client, group string, fetches kgo.Fetches) {
	offsets := [][3]any{}
	fetches.EachPartition(func(partition kgo.FetchTopicPartition) {
		if len(partition.Records) == 0 {
			return
		}
		records := make([][2]any, len(partition.Records))
		for i, record := range partition.Records {
			records[i] = [2]any{record.Offset, string(record.Value)}
		}
		log.Write("polled", events.Fields{"topic": partition.Topic, "partition": partition.Partition, "records": records})
		offsets = append(offsets, [3]any{partition.Topic, partition.Partition, partition.Records[len(records)-1].Offset + 1})
	})
	if len(offsets) == 0 {
		return
	}
	begun := events.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := member.CommitRecords(ctx, fetches.Records()...); err != nil {
		// A rebalance came in between: whoever owns these partitions now begins at the commit before.
		fmt.Println("commit:", err)
		return
	}
	log.Write("committed", events.Fields{"begun": begun, "group": group, "offsets": offsets})
}

// session is the session timeout of a classic member; with the other protocol it is the broker's to set.
func session() time.Duration {
	milliseconds, err := strconv.Atoi(os.Getenv("SESSION_MS"))
	events.Must(err, "SESSION_MS")
	return time.Duration(milliseconds) * time.Millisecond
}

func pairs(partitions map[string][]int32) [][2]any {
	list := [][2]any{}
	for topic, numbers := range partitions {
		for _, number := range numbers {
			list = append(list, [2]any{topic, number})
		}
	}
	return list
}
