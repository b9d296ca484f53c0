// A transaction that stays open: `transaction BOOTSTRAP CLIENT TRANSACTIONAL-ID TOPIC`.
//
// Sends one record to partition 0, says `open`, and aborts when its input ends. Is killed when nobody shall end the transaction.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"ottla/tests/clients/go/events"
)

func main() {
	finish := events.Finish()
	producer, err := kgo.NewClient(
		kgo.SeedBrokers(os.Args[1]), kgo.ClientID(os.Args[2]), kgo.TransactionalID(os.Args[3]), kgo.DefaultProduceTopic(os.Args[4]),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionTimeout(10*time.Minute),
	)
	events.Must(err, "new client")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	events.Must(producer.BeginTransaction(), "begin")
	events.Must(producer.ProduceSync(ctx, kgo.StringRecord("undecided")).FirstErr(), "produce")
	fmt.Println("open")
	<-finish
	events.Must(producer.EndTransaction(context.Background(), kgo.TryAbort), "abort")
	producer.Close()
}
