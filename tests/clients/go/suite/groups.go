package main

// Consumer groups: joining, leaving, static members, committed offsets, and what an administrator sees of it.

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func numbered(topic string, partition int32, from, to int) []*kgo.Record {
	var records []*kgo.Record
	for i := from; i < to; i++ {
		records = append(records, &kgo.Record{Topic: topic, Partition: partition, Value: []byte(fmt.Sprint(i))})
	}
	return records
}

func groupEarliest(ctx context.Context) {
	topic, group := name("earliest"), name("earliest")
	createTopic(ctx, topic, 1, nil)
	producer := connect()
	defer producer.Close()
	produce(ctx, producer, numbered(topic, 0, 0, 100)...)
	member := connect(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer member.Close()
	for i, record := range poll(ctx, member, 100)[0] {
		expect(string(record.Value) == fmt.Sprint(i), "value %s at place %d", record.Value, i)
	}
	must(member.CommitUncommittedOffsets(ctx), "commit")
	offsets, err := admin.FetchOffsets(ctx, group)
	must(err, "fetching offsets")
	committed, _ := offsets.Lookup(topic, 0)
	expect(committed.At == 100, "committed %d", committed.At)
}

// resumeFromCommit consumes twenty records and commits in each round: over restarts nothing is read twice or skipped.
func resumeFromCommit(ctx context.Context) {
	topic, group := name("resume"), name("resume")
	if round == 0 {
		createTopic(ctx, topic, 1, nil)
		producer := connect()
		produce(ctx, producer, numbered(topic, 0, 0, 60)...)
		producer.Close()
	}
	member := connect(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer member.Close()
	records := poll(ctx, member, 20)[0]
	for i, record := range records {
		expect(string(record.Value) == fmt.Sprint(round*20+i), "value %s at place %d of round %d", record.Value, i, round)
	}
	must(member.CommitRecords(ctx, records...), "commit")
}

func rebalanceRange(ctx context.Context) { rebalance(ctx, "range", kgo.RangeBalancer()) }
func rebalanceCooperative(ctx context.Context) {
	rebalance(ctx, "cooperative", kgo.CooperativeStickyBalancer())
}

// Three members come, one goes by leaving: each time every partition has exactly one owner, and no record is lost on the way.
func rebalance(ctx context.Context, kind string, balancer kgo.GroupBalancer) {
	topic, group := name("rebalance-"+kind), name("rebalance-"+kind)
	createTopic(ctx, topic, 6, nil)
	var consumed atomic.Int64
	var members []*kgo.Client
	join := func() {
		member := connect(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.Balancers(balancer),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(300*time.Millisecond))
		members = append(members, member)
		go func() {
			for {
				fetches := member.PollFetches(ctx)
				if fetches.IsClientClosed() || ctx.Err() != nil {
					return
				}
				consumed.Add(int64(fetches.NumRecords()))
			}
		}()
	}
	defer func() {
		for _, member := range members {
			member.Close()
		}
	}()
	producer := connect(kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	defer producer.Close()
	join()
	eventuallyOwned(ctx, group, topic, 6, 1)
	produce(ctx, producer, numbered(topic, 0, 0, 60)...)
	join()
	eventuallyOwned(ctx, group, topic, 6, 2)
	produce(ctx, producer, numbered(topic, 0, 60, 120)...)
	join()
	eventuallyOwned(ctx, group, topic, 6, 3)
	members[0].Close()
	members = members[1:]
	eventuallyOwned(ctx, group, topic, 6, 2)
	produce(ctx, producer, numbered(topic, 0, 120, 180)...)
	eventually(ctx, func() string {
		if consumed.Load() < 180 {
			return fmt.Sprintf("%d of 180 consumed", consumed.Load())
		}
		return ""
	})
}

// eventuallyOwned waits until the group is stable with so many members and every partition belongs to exactly one.
func eventuallyOwned(ctx context.Context, group, topic string, partitions, members int) {
	eventually(ctx, func() string {
		described, err := admin.DescribeGroups(ctx, group)
		if err != nil {
			return err.Error()
		}
		g := described[group]
		if g.State != "Stable" || len(g.Members) != members {
			return fmt.Sprintf("%s with %d members, expected Stable with %d (%v)", g.State, len(g.Members), members, g.Err)
		}
		owners := map[int32]int{}
		for _, member := range g.Members {
			assigned, ok := member.Assigned.AsConsumer()
			if !ok {
				return "a member without assignment"
			}
			for _, t := range assigned.Topics {
				for _, partition := range t.Partitions {
					owners[partition]++
				}
			}
		}
		for partition := range int32(partitions) {
			if owners[partition] != 1 {
				return fmt.Sprintf("partition %d of %s has %d owners", partition, topic, owners[partition])
			}
		}
		return ""
	})
}

// A static member that goes and comes back within its session timeout finds its partitions, and nobody else notices.
func staticMemberRestart(ctx context.Context) {
	topic, group := name("static"), name("static")
	createTopic(ctx, topic, 4, nil)
	var revocations atomic.Int64
	join := func(instance string) *kgo.Client {
		member := connect(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.InstanceID(instance), kgo.Balancers(kgo.RangeBalancer()),
			kgo.SessionTimeout(20*time.Second), kgo.HeartbeatInterval(300*time.Millisecond), kgo.DisableAutoCommit(),
			kgo.OnPartitionsRevoked(func(context.Context, *kgo.Client, map[string][]int32) { revocations.Add(1) }))
		go func() {
			for {
				if fetches := member.PollFetches(ctx); fetches.IsClientClosed() || ctx.Err() != nil {
					return
				}
			}
		}()
		return member
	}
	one := join("instance-one")
	defer one.Close()
	two := join("instance-two")
	eventuallyOwned(ctx, group, topic, 4, 2)
	eventually(ctx, func() string {
		_, a := one.GroupMetadata()
		_, b := two.GroupMetadata()
		if a != b || a < 1 {
			return fmt.Sprintf("generations %d and %d", a, b)
		}
		return ""
	})
	_, generation := one.GroupMetadata()
	before := assignment(ctx, group)
	revocations.Store(0)
	two.Close()
	revokedByClosing := revocations.Load()
	two = join("instance-two")
	defer two.Close()
	eventually(ctx, func() string {
		if id, g := two.GroupMetadata(); g != generation || id == "" {
			return fmt.Sprintf("the returned member has generation %d, expected %d", g, generation)
		}
		return ""
	})
	eventuallyOwned(ctx, group, topic, 4, 2)
	_, still := one.GroupMetadata()
	expect(still == generation, "the other member went from generation %d to %d", generation, still)
	expect(revocations.Load() == revokedByClosing, "partitions were revoked")
	expect(before == assignment(ctx, group), "assignment changed from %s to %s", before, assignment(ctx, group))
}

// assignment names each instance's partitions.
func assignment(ctx context.Context, group string) string {
	described, err := admin.DescribeGroups(ctx, group)
	must(err, "describing")
	text := map[string]string{}
	for _, member := range described[group].Members {
		if assigned, ok := member.Assigned.AsConsumer(); ok && member.InstanceID != nil {
			text[*member.InstanceID] = fmt.Sprint(assigned.Topics)
		}
	}
	return fmt.Sprint(text)
}

func adminGroups(ctx context.Context) {
	topic, group := name("groups"), name("groups")
	createTopic(ctx, topic, 2, nil)
	member := connect(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.Balancers(kgo.RangeBalancer()), kgo.ClientID("the-member"))
	eventuallyOwned(ctx, group, topic, 2, 1)

	listed, err := admin.ListGroups(ctx)
	must(err, "listing groups")
	expect(listed[group].State == "Stable" && listed[group].ProtocolType == "consumer", "listed as %+v", listed[group])
	listed, err = admin.ListGroups(ctx, "Empty")
	must(err, "listing empty groups")
	_, found := listed[group]
	expect(!found, "a stable group is listed among the empty ones")
	described, err := admin.DescribeGroups(ctx, group)
	must(err, "describing")
	d := described[group]
	expect(d.Protocol == "range" && d.Members[0].ClientID == "the-member" && d.Members[0].ClientHost != "", "described as %+v", d)

	var offsets kadm.Offsets
	offsets.AddOffset(topic, 0, 5, -1)
	offsets.AddOffset(topic, 1, 7, -1)
	mustFailWith(admin.CommitAllOffsets(ctx, group, offsets), kerr.UnknownMemberID, "committing from outside into a stable group")
	deleted, err := admin.DeleteGroup(ctx, group)
	expect(err != nil || deleted.Err != nil, "a group with members was deleted")
	mustFailWith(err, kerr.NonEmptyGroup, "deleting a group with members")
	var topics kadm.TopicsSet
	topics.Add(topic, 0)
	deletions, err := admin.DeleteOffsets(ctx, group, topics)
	must(err, "deleting offsets")
	subscribed := deletions[topic][0]
	mustFailWith(subscribed, kerr.GroupSubscribedToTopic, "deleting offsets of a subscribed topic")
	member.Close()

	eventually(ctx, func() string {
		described, err := admin.DescribeGroups(ctx, group)
		must(err, "describing")
		if described[group].State != "Empty" {
			return "state " + described[group].State
		}
		return ""
	})
	must(admin.CommitAllOffsets(ctx, group, offsets), "committing into an empty group")
	deletions, err = admin.DeleteOffsets(ctx, group, topics)
	must(err, "deleting offsets")
	must(deletions[topic][0], "deleting the offset of partition 0")
	fetched, err := admin.FetchOffsets(ctx, group)
	must(err, "fetching offsets")
	_, found = fetched.Lookup(topic, 0)
	kept, _ := fetched.Lookup(topic, 1)
	expect(!found && kept.At == 7, "after deletion: %v", fetched)

	_, err = admin.DeleteGroup(ctx, group)
	must(err, "deleting the empty group")
	_, err = admin.DeleteGroup(ctx, group)
	mustFailWith(err, kerr.GroupIDNotFound, "deleting a group that is not there")
	described, err = admin.DescribeGroups(ctx, group)
	if err == nil {
		d := described[group]
		expect(d.State == "Dead" || d.Err != nil, "after deletion the group is %+v", d)
	}
}
