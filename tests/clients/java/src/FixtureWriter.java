import static java.nio.charset.StandardCharsets.US_ASCII;

import java.io.BufferedWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Fills an Apache Kafka broker with what a storage must be able to open, and lists it as its own consumer reads it.
 *
 * <p>{@code write BOOTSTRAP}: topics of one partition each, all named {@code fixture-...}. {@code list BOOTSTRAP FILE}: one JSON
 * object per record: topic, offset, timestamp, timestamp_type, key, value, headers, and whether read_committed sees it.
 */
final class FixtureWriter {
    private static final String PREFIX = "fixture-";
    private static final long ORIGIN = System.currentTimeMillis() - Duration.ofDays(1).toMillis();
    /** Text only, so that a manifest of plain JSON strings says everything. */
    private static final Random DICE = new Random(4711);

    private static String bootstrap;
    private static Admin admin;

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[1];
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
        if (arguments[0].equals("write")) {
            write();
        } else {
            list(Path.of(arguments[2]));
        }
        admin.close(Duration.ofSeconds(5));
    }

    private static void write() throws Exception {
        // A new segment for every ten minutes of timestamps: many small ones.
        Map<String, String> rolling = Map.of("segment.ms", "600000", "retention.ms", "-1");
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            create(codec, rolling);
            fill(codec, 400, 5_000, 60, Map.of("compression.type", codec));
        }
        // Segments that roll by size, with index entries every few batches.
        create("sized", Map.of("segment.bytes", "1048576", "index.interval.bytes", "1024", "retention.ms", "-1"));
        fill("sized", 3_000, 1_000, 900, Map.of());
        create("append-time", Map.of("message.timestamp.type", "LogAppendTime", "retention.ms", "-1"));
        fill("append-time", 100, 1_000, 60, Map.of("compression.type", "lz4"));
        create("trimmed", rolling);
        fill("trimmed", 300, 5_000, 60, Map.of());
        admin.deleteRecords(Map.of(partition("trimmed"), RecordsToDelete.beforeOffset(123))).all().get();
        create("shapes", Map.of("retention.ms", "-1"));
        shapes();
        create("transactions", rolling);
        transactions();
        create("empty", Map.of());
    }

    private static TopicPartition partition(String part) {
        return new TopicPartition(PREFIX + part, 0);
    }

    private static void create(String part, Map<String, String> configs) throws Exception {
        admin.createTopics(List.of(new NewTopic(PREFIX + part, 1, (short) 1).configs(configs))).all().get();
    }

    private static KafkaProducer<String, String> producer(Map<String, Object> options) {
        Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "linger.ms", 5, "batch.size", 4096));
        settings.putAll(options);
        return new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
    }

    /** So many records, so many milliseconds of timestamp apart, each with a value of about that length. */
    private static void fill(String part, int count, long step, int length, Map<String, Object> options) {
        try (KafkaProducer<String, String> writer = producer(options)) {
            for (int i = 0; i < count; i++) {
                writer.send(record(part, i, ORIGIN + i * step, length));
            }
        }
    }

    private static ProducerRecord<String, String> record(String part, int i, long timestamp, int length) {
        String value = i % 50 == 49 ? null : part + "/" + i + "/" + noise(length);
        ProducerRecord<String, String> record = new ProducerRecord<>(PREFIX + part, 0, timestamp, i % 7 == 0 ? null : "key-" + i, value);
        if (i % 3 == 0) {
            record.headers().add("n", Integer.toString(i).getBytes(US_ASCII));
        }
        return record;
    }

    private static String noise(int length) {
        StringBuilder text = new StringBuilder(length);
        for (int i = 0; i < length; i++) {
            text.append((char) ('!' + DICE.nextInt(90)));
        }
        return text.toString();
    }

    private static void shapes() {
        try (KafkaProducer<String, String> writer = producer(Map.of("batch.size", 0, "enable.idempotence", false, "acks", "1"))) {
            writer.send(new ProducerRecord<String, String>(PREFIX + "shapes", 0, ORIGIN, null, (String) null));
            writer.send(new ProducerRecord<>(PREFIX + "shapes", 0, ORIGIN + 1, "", ""));
            writer.send(new ProducerRecord<>(PREFIX + "shapes", 0, ORIGIN - 5, "backwards in time", "x"));
            ProducerRecord<String, String> many = new ProducerRecord<>(PREFIX + "shapes", 0, ORIGIN + 2, "headers", "x");
            many.headers().add("twice", new byte[] {'1'}).add("twice", new byte[] {'2'}).add("null", null).add("", new byte[0]);
            writer.send(many);
            writer.send(new ProducerRecord<>(PREFIX + "shapes", 0, ORIGIN + 3, "large", noise(900_000)));
        }
    }

    /** Two transactional producers in turn, one of them aborting every third time, and plain records between. */
    private static void transactions() throws Exception {
        try (KafkaProducer<String, String> steady = producer(Map.of("transactional.id", "steady"));
                KafkaProducer<String, String> fickle = producer(Map.of("transactional.id", "fickle", "compression.type", "zstd"));
                KafkaProducer<String, String> plain = producer(Map.of())) {
            steady.initTransactions();
            fickle.initTransactions();
            int n = 0;
            for (int turn = 0; turn < 30; turn++) {
                steady.beginTransaction();
                fickle.beginTransaction();
                for (int i = 0; i < 5; i++) {
                    steady.send(record("transactions", n, ORIGIN + n++ * 4_000L, 40));
                    fickle.send(record("transactions", n, ORIGIN + n++ * 4_000L, 40));
                    plain.send(record("transactions", n, ORIGIN + n++ * 4_000L, 40));
                }
                if (turn % 3 == 2) {
                    fickle.abortTransaction();
                } else {
                    fickle.commitTransaction();
                }
                steady.commitTransaction();
            }
        }
    }

    // ---- the manifest

    private static void list(Path file) throws Exception {
        Set<String> topics = new TreeSet<>(admin.listTopics().names().get());
        topics.removeIf(topic -> !topic.startsWith(PREFIX));
        try (BufferedWriter out = Files.newBufferedWriter(file, StandardCharsets.UTF_8)) {
            for (String topic : topics) {
                Set<Long> committed = new HashSet<>();
                read(topic, "read_committed", record -> committed.add(record.offset()));
                read(topic, "read_uncommitted", record -> {
                    out.write(line(record, committed.contains(record.offset())));
                    out.newLine();
                });
            }
        }
    }

    private interface Reader {
        void accept(ConsumerRecord<String, String> record) throws Exception;
    }

    private static void read(String topic, String isolation, Reader reader) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "earliest",
            "isolation.level", isolation, "enable.auto.commit", false);
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> client = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            client.assign(List.of(partition));
            long end = client.endOffsets(List.of(partition)).get(partition);
            long deadline = System.nanoTime() + Duration.ofSeconds(60).toNanos();
            client.seekToBeginning(List.of(partition));
            while (client.position(partition) < end) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException(topic + ": stuck at " + client.position(partition) + " of " + end);
                }
                for (ConsumerRecord<String, String> record : client.poll(Duration.ofMillis(100))) {
                    reader.accept(record);
                }
            }
        }
    }

    private static String line(ConsumerRecord<String, String> record, boolean committed) {
        StringBuilder headers = new StringBuilder();
        for (Header header : record.headers()) {
            String value = header.value() == null ? null : new String(header.value(), US_ASCII);
            headers.append(headers.length() == 0 ? "" : ",").append('[').append(quote(header.key())).append(',').append(quote(value)).append(']');
        }
        return "{\"topic\":" + quote(record.topic()) + ",\"offset\":" + record.offset() + ",\"timestamp\":" + record.timestamp()
            + ",\"timestamp_type\":" + quote(record.timestampType().toString()) + ",\"key\":" + quote(record.key())
            + ",\"value\":" + quote(record.value()) + ",\"headers\":[" + headers + "],\"committed\":" + committed + "}";
    }

    private static String quote(String text) {
        return text == null ? "null" : "\"" + text.replace("\\", "\\\\").replace("\"", "\\\"") + "\"";
    }
}
