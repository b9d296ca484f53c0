// A steady producer that writes down what it sends and what is acknowledged: `steady BOOTSTRAP CLIENT RATE TOPIC PARTITIONS [TOPIC PARTITIONS]...`.
//
// Idempotent, acks=all, never giving up; values are unique. Topics that are missing are created. When its input ends it flushes and ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"ottla/tests/clients/go/events"
)

type place struct {
	topic     string
	partition int32
}

func main() {
	bootstrap, client := os.Args[1], os.Args[2]
	rate, err := strconv.Atoi(os.Args[3])
	events.Must(err, "rate")
	log, finish := events.New(client), events.Finish()
	producer, err := kgo.NewClient(
		kgo.SeedBrokers(events.Seeds(bootstrap)...), kgo.ClientID(client), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(time.Millisecond), kgo.MaxBufferedRecords(2000), kgo.MetadataMinAge(10*time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }), kgo.StopProducerOnDataLossDetected(),
		kgo.UnknownTopicRetries(-1),
	)
	events.Must(err, "new client")
	places := create(producer, os.Args[4:])

	ctx := context.Background()
	tick := time.NewTicker(5 * time.Millisecond)
	begun, sent := time.Now(), 0
	for {
		select {
		case <-finish:
			events.Must(producer.Flush(ctx), "flush")
			fmt.Println("sent", sent)
			return
		case <-tick.C:
		}
		for due := int(time.Since(begun).Seconds() * float64(rate)); sent < due; sent++ {
			place, value := places[sent%len(places)], client+"-"+strconv.Itoa(sent)
			log.Write("sending", events.Fields{"topic": place.topic, "value": value})
			record := &kgo.Record{Topic: place.topic, Partition: place.partition, Value: []byte(value)}
			producer.Produce(ctx, record, func(record *kgo.Record, err error) {
				if err != nil {
					fmt.Printf("%s failed: %v\n", record.Value, err)
					return
				}
				log.Write("acked", events.Fields{
					"topic": record.Topic, "partition": record.Partition, "value": string(record.Value), "offset": record.Offset,
				})
			})
		}
	}
}

// create creates the topics, and lists their partitions.
func create(client *kgo.Client, pairs []string) []place {
	var places []place
	for i := 0; i+1 < len(pairs); i += 2 {
		partitions, err := strconv.Atoi(pairs[i+1])
		events.Must(err, "partitions")
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		_, err = kadm.NewClient(client).CreateTopic(ctx, int32(partitions), -1, nil, pairs[i])
		cancel()
		if !errors.Is(err, kerr.TopicAlreadyExists) {
			events.Must(err, "creating "+pairs[i])
		}
		for partition := range partitions {
			places = append(places, place{pairs[i], int32(partition)})
		}
	}
	return places
}
