import java.util.Collection;
import java.util.Map;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;

/** The lines of a history (crates/checker/src/event.rs), as this client writes them. */
final class Events {
    private final String client;

    Events(String client) {
        this.client = client;
    }

    /** CLOCK_MONOTONIC, which all processes of a machine share. */
    static long now() {
        return System.nanoTime();
    }

    void write(String op, String fields) {
        write(op, now(), fields);
    }

    synchronized void write(String op, long time, String fields) {
        System.out.println("{\"t\":" + time + ",\"client\":" + quoted(client) + ",\"op\":" + quoted(op) + fields + "}");
        System.out.flush();
    }

    static String field(String name, String value) {
        return "," + quoted(name) + ":" + quoted(value);
    }

    static String field(String name, long value) {
        return "," + quoted(name) + ":" + value;
    }

    static String field(TopicPartition partition) {
        return field("topic", partition.topic()) + field("partition", partition.partition());
    }

    static String partitions(Collection<TopicPartition> partitions) {
        StringBuilder text = new StringBuilder();
        for (TopicPartition partition : partitions) {
            text.append(text.isEmpty() ? "" : ",").append('[').append(quoted(partition.topic())).append(',');
            text.append(partition.partition()).append(']');
        }
        return ",\"partitions\":[" + text + "]";
    }

    static String offsets(Map<TopicPartition, OffsetAndMetadata> offsets) {
        StringBuilder text = new StringBuilder();
        offsets.forEach((partition, offset) -> {
            text.append(text.isEmpty() ? "" : ",").append('[').append(quoted(partition.topic())).append(',');
            text.append(partition.partition()).append(',').append(offset.offset()).append(']');
        });
        return ",\"offsets\":[" + text + "]";
    }

    /** Names and values of these programs need no escapes. */
    static String quoted(String text) {
        return "\"" + text + "\"";
    }

    /** A flag that is set when standard input ends: the harness has asked the program to finish. */
    static final class Finish extends Thread {
        private volatile boolean asked;

        Finish() {
            setDaemon(true);
            start();
        }

        @Override
        public void run() {
            try {
                while (System.in.read() >= 0) {
                    continue;
                }
            } catch (java.io.IOException closed) {
                System.err.println(closed);
            }
            asked = true;
        }

        boolean asked() {
            return asked;
        }
    }
}
