import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The suite of Apache Kafka's own Java client: producer, consumer and administrator.
 *
 * <p>Called as {@code Suite BOOTSTRAP RUN ROUND [CASE]}; see tests/clients/README.md.
 */
final class Suite {
    private static String bootstrap;
    private static String run;
    private static int round;
    private static Admin admin;

    public static void main(String[] arguments) {
        bootstrap = arguments[0];
        run = arguments[1];
        round = Integer.parseInt(arguments[2]);
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
        Cases cases = new Cases();
        cases.add("json-autocreate", Cases.FIRST, Suite::jsonAutocreate);
        cases.add("group-earliest", Cases.FIRST, Suite::groupEarliest);
        cases.add("resume-from-commit", Cases.EVERY, Suite::resumeFromCommit);
        cases.add("codecs-write", Cases.FIRST, Suite::codecsWrite);
        cases.add("codecs-read", Cases.EVERY, Suite::codecsRead);
        cases.add("headers-and-nulls", Cases.FIRST, Suite::headersAndNulls);
        cases.add("large-records", Cases.FIRST, Suite::largeRecords);
        cases.add("idempotent-producer", Cases.EVERY, Suite::idempotentProducer);
        cases.add("log-append-time", Cases.FIRST, Suite::logAppendTime);
        cases.add("rebalance-eager", Cases.FIRST, () -> rebalance("eager", RangeAssignor.class));
        cases.add("rebalance-cooperative", Cases.FIRST, () -> rebalance("cooperative", CooperativeStickyAssignor.class));
        cases.add("static-member-restart", Cases.FIRST, Suite::staticMemberRestart);
        cases.add("offsets-by-timestamp", Cases.FIRST, Suite::offsetsByTimestamp);
        cases.add("offset-out-of-range", Cases.FIRST, Suite::offsetOutOfRange);
        cases.add("admin-topics", Cases.FIRST, Suite::adminTopics);
        cases.add("admin-topic-ids", Cases.EVERY, Suite::adminTopicIds);
        cases.add("admin-configs", Cases.FIRST, Suite::adminConfigs);
        cases.add("admin-delete-records", Cases.FIRST, Suite::adminDeleteRecords);
        cases.add("admin-groups", Cases.FIRST, Suite::adminGroups);
        cases.add("admin-cluster", Cases.EVERY, Suite::adminCluster);
        cases.add("unknown-topic", Cases.EVERY, Suite::unknownTopic);
        boolean good = cases.run(round, arguments.length > 3 ? arguments[3] : "");
        admin.close(Duration.ofSeconds(5));
        System.exit(good ? 0 : 1);
    }

    // ---- what the cases are made of

    private static String name(String part) {
        return run + "-java-" + part;
    }

    private static Producer<byte[], byte[]> producer(Object... options) {
        Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "max.block.ms", 30_000));
        return new KafkaProducer<>(with(settings, options), new ByteArraySerializer(), new ByteArraySerializer());
    }

    private static Consumer<byte[], byte[]> consumer(Object... options) {
        Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "earliest",
            "enable.auto.commit", false, "heartbeat.interval.ms", 300, "session.timeout.ms", 10_000, "group.protocol", "classic"));
        return new KafkaConsumer<>(with(settings, options), new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static Map<String, Object> with(Map<String, Object> settings, Object... options) {
        for (int i = 0; i < options.length; i += 2) {
            settings.put((String) options[i], options[i + 1]);
        }
        return settings;
    }

    private static byte[] bytes(String text) {
        return text == null ? null : text.getBytes(UTF_8);
    }

    private static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, UTF_8);
    }

    private static void create(String topic, int partitions, Map<String, String> configs) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(configs))).all().get();
    }

    private static void write(String topic, int from, int to, Object... options) throws Exception {
        try (Producer<byte[], byte[]> writer = producer(options)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = from; i < to; i++) {
                sent.add(writer.send(new ProducerRecord<>(topic, 0, null, bytes("" + i))));
            }
            for (Future<RecordMetadata> one : sent) {
                one.get();
            }
        }
    }

    private static List<ConsumerRecord<byte[], byte[]>> read(Consumer<byte[], byte[]> reader, int count) {
        List<ConsumerRecord<byte[], byte[]>> found = new ArrayList<>();
        long deadline = System.nanoTime() + Duration.ofSeconds(30).toNanos();
        while (found.size() < count) {
            Cases.expect(System.nanoTime() < deadline, "only " + found.size() + " of " + count + " records came");
            reader.poll(Duration.ofMillis(200)).forEach(found::add);
        }
        return found;
    }

    private static List<ConsumerRecord<byte[], byte[]>> readAll(String topic, int count, Object... options) {
        try (Consumer<byte[], byte[]> reader = consumer(options)) {
            reader.assign(List.of(new TopicPartition(topic, 0)));
            return read(reader, count);
        }
    }

    private static List<Integer> numbers(List<ConsumerRecord<byte[], byte[]>> records) {
        return records.stream().map(record -> Integer.parseInt(text(record.value()))).toList();
    }

    private static List<Integer> range(int from, int to) {
        return IntStream.range(from, to).boxed().toList();
    }

    // ---- records

    private static void jsonAutocreate() throws Exception {
        String topic = name("json");
        try (Producer<byte[], byte[]> writer = producer()) {
            for (int i = 0; i < 200; i++) {
                writer.send(new ProducerRecord<>(topic, bytes("k" + i % 4), bytes("{\"n\":" + i + "}")));
            }
            writer.flush();
        }
        try (Consumer<byte[], byte[]> reader = consumer("group.id", name("json"))) {
            reader.subscribe(List.of(topic));
            Set<String> found = new TreeSet<>();
            read(reader, 200).forEach(record -> found.add(text(record.value())));
            Cases.equal(found.size(), 200, "different values");
        }
    }

    private static void groupEarliest() throws Exception {
        String topic = name("earliest");
        create(topic, 1, Map.of());
        write(topic, 0, 100);
        try (Consumer<byte[], byte[]> reader = consumer("group.id", name("earliest"), "max.poll.records", 30)) {
            reader.subscribe(List.of(topic));
            Cases.equal(numbers(read(reader, 100)), range(0, 100), "values");
            reader.commitSync(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(70, Optional.empty(), "a note")));
            OffsetAndMetadata committed = reader.committed(Set.of(new TopicPartition(topic, 0))).get(new TopicPartition(topic, 0));
            Cases.equal(committed.offset() + committed.metadata(), "70a note", "committed");
        }
    }

    private static void resumeFromCommit() throws Exception {
        String topic = name("resume");
        if (round == 0) {
            create(topic, 1, Map.of());
            write(topic, 0, 60);
        }
        try (Consumer<byte[], byte[]> reader = consumer("group.id", name("resume"), "max.poll.records", 20)) {
            reader.subscribe(List.of(topic));
            Cases.equal(numbers(read(reader, 20)), range(round * 20, round * 20 + 20), "round " + round);
            reader.commitSync();
        }
    }

    private static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");

    private static byte[] codecValue(String writer, String codec, int i) {
        return bytes(writer + "/" + codec + "/" + i + "/" + "all work and no play ".repeat(i));
    }

    private static void codecsWrite() throws Exception {
        for (String codec : CODECS) {
            String topic = run + "-codec-java-" + codec;
            create(topic, 1, Map.of());
            try (Producer<byte[], byte[]> writer = producer("compression.type", codec, "linger.ms", 50)) {
                for (int i = 0; i < 40; i++) {
                    ProducerRecord<byte[], byte[]> record =
                        new ProducerRecord<>(topic, 0, bytes("k" + i), codecValue("java", codec, i));
                    record.headers().add("n", bytes("" + i));
                    writer.send(record);
                }
            }
        }
    }

    private static void codecsRead() throws Exception {
        String prefix = run + "-codec-" + (round == 0 ? "java-" : "");
        List<String> topics = admin.listTopics().names().get().stream().filter(topic -> topic.startsWith(prefix)).toList();
        Cases.expect(topics.size() >= CODECS.size(), "only " + topics);
        Map<String, List<ConsumerRecord<byte[], byte[]>>> all = new HashMap<>();
        try (Consumer<byte[], byte[]> reader = consumer()) {
            reader.assign(topics.stream().map(topic -> new TopicPartition(topic, 0)).toList());
            for (ConsumerRecord<byte[], byte[]> record : read(reader, 40 * topics.size())) {
                all.computeIfAbsent(record.topic(), topic -> new ArrayList<>()).add(record);
            }
        }
        for (String topic : topics) {
            String[] parts = topic.split("-");
            List<ConsumerRecord<byte[], byte[]>> found = all.get(topic);
            Cases.equal(found.size(), 40, topic + ": records");
            for (int i = 0; i < 40; i++) {
                ConsumerRecord<byte[], byte[]> record = found.get(i);
                Cases.equal(text(record.key()), "k" + i, topic + ": key");
                Cases.expect(Arrays.equals(record.value(), codecValue(parts[2], parts[3], i)), topic + ": value at " + i);
                Cases.equal(text(record.headers().lastHeader("n").value()), "" + i, topic + ": header");
            }
        }
    }

    private static void headersAndNulls() throws Exception {
        String topic = name("headers");
        create(topic, 1, Map.of());
        ProducerRecord<byte[], byte[]> last = new ProducerRecord<>(topic, 0, new byte[] {-1}, new byte[] {-128, 0});
        last.headers().add("twice", bytes("1")).add("twice", bytes("2")).add("null", null).add("empty", new byte[0])
            .add("bytes", new byte[] {-1, -2, 0});
        try (Producer<byte[], byte[]> writer = producer()) {
            writer.send(new ProducerRecord<>(topic, 0, null, bytes("null key")));
            writer.send(new ProducerRecord<>(topic, 0, new byte[0], new byte[0]));
            writer.send(new ProducerRecord<>(topic, 0, bytes("tombstone"), null));
            writer.send(last).get();
        }
        List<ConsumerRecord<byte[], byte[]>> found = readAll(topic, 4);
        Cases.expect(found.get(0).key() == null && found.get(2).value() == null, "null became something");
        Cases.expect(found.get(1).key().length == 0 && found.get(1).value().length == 0, "empty became something");
        StringBuilder headers = new StringBuilder();
        for (Header header : found.get(3).headers()) {
            headers.append(header.key()).append('=').append(Arrays.toString(header.value())).append(' ');
        }
        Cases.equal(headers.toString(), "twice=[49] twice=[50] null=null empty=[] bytes=[-1, -2, 0] ", "headers");
    }

    private static void largeRecords() throws Exception {
        String topic = name("large");
        create(topic, 1, Map.of("max.message.bytes", "2000000"));
        try (Producer<byte[], byte[]> writer = producer("max.request.size", 4_000_000, "buffer.memory", 64_000_000L)) {
            for (int i = 0; i < 3; i++) {
                byte[] value = new byte[1 << 20];
                Arrays.fill(value, (byte) ('a' + i));
                writer.send(new ProducerRecord<>(topic, 0, null, value)).get();
            }
            Cases.refused(RecordTooLargeException.class, () -> writer.send(new ProducerRecord<>(topic, new byte[3_000_000])).get());
        }
        List<ConsumerRecord<byte[], byte[]>> found = readAll(topic, 3, "max.partition.fetch.bytes", 1000);
        for (int i = 0; i < 3; i++) {
            byte[] value = found.get(i).value();
            Cases.expect(value.length == 1 << 20 && value[value.length - 1] == 'a' + i, "record " + i);
        }
    }

    private static void idempotentProducer() throws Exception {
        String topic = name("idempotent");
        if (round == 0) {
            create(topic, 1, Map.of());
        }
        write(topic, round * 500, round * 500 + 500, "enable.idempotence", true, "linger.ms", 0);
        Cases.equal(numbers(readAll(topic, (round + 1) * 500)), range(0, (round + 1) * 500), "values");
    }

    private static void logAppendTime() throws Exception {
        String topic = name("append-time");
        create(topic, 1, Map.of("message.timestamp.type", "LogAppendTime"));
        long before = System.currentTimeMillis();
        for (String codec : List.of("none", "lz4")) {
            try (Producer<byte[], byte[]> writer = producer("compression.type", codec)) {
                RecordMetadata sent = writer.send(new ProducerRecord<>(topic, 0, 12345L, null, bytes("x"))).get();
                Cases.expect(sent.timestamp() >= before, "the producer is told " + sent.timestamp());
            }
        }
        for (ConsumerRecord<byte[], byte[]> record : readAll(topic, 2)) {
            Cases.equal(record.timestampType().toString(), "LogAppendTime", "type");
            Cases.expect(record.timestamp() >= before, "the consumer is told " + record.timestamp());
        }
    }

    // ---- groups

    /** A member that polls in a thread of its own until it is told to leave. */
    private static final class Member extends Thread {
        final Set<TopicPartition> owned = new TreeSet<>((a, b) -> a.partition() - b.partition());
        int revocations;
        volatile boolean leaving;
        final List<Integer> seen = new ArrayList<>();
        private final String topic;
        private final Object[] options;

        Member(String topic, Object... options) {
            this.topic = topic;
            this.options = options;
            setDaemon(true);
            start();
        }

        @Override
        public void run() {
            try (Consumer<byte[], byte[]> client = consumer(options)) {
                client.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                    @Override
                    public void onPartitionsRevoked(Collection<TopicPartition> revoked) {
                        synchronized (Member.this) {
                            owned.removeAll(revoked);
                            revocations++;
                        }
                    }

                    @Override
                    public void onPartitionsAssigned(Collection<TopicPartition> assigned) {
                        synchronized (Member.this) {
                            owned.addAll(assigned);
                        }
                    }
                });
                while (!leaving) {
                    for (ConsumerRecord<byte[], byte[]> record : client.poll(Duration.ofMillis(50))) {
                        synchronized (this) {
                            seen.add(Integer.parseInt(text(record.value())));
                        }
                    }
                    client.commitAsync();
                }
            }
            synchronized (this) {
                owned.clear();
            }
        }

        void leave() throws InterruptedException {
            leaving = true;
            join(20_000);
        }

        synchronized String holds() {
            return owned.toString();
        }

        synchronized List<Integer> values() {
            return List.copyOf(seen);
        }
    }

    /** Null when the members together own every partition exactly once, and each owns some. */
    private static String shared(int partitions, Member... members) {
        Set<Integer> all = new TreeSet<>();
        int count = 0;
        for (Member member : members) {
            synchronized (member) {
                member.owned.forEach(partition -> all.add(partition.partition()));
                count += member.owned.size();
                if (member.owned.isEmpty()) {
                    return "a member owns nothing";
                }
            }
        }
        return count == partitions && all.size() == partitions ? null : "owned: " + all + ", " + count;
    }

    private static void rebalance(String kind, Class<?> strategy) throws Exception {
        String topic = name("rebalance-" + kind);
        create(topic, 6, Map.of());
        Object[] options = {"group.id", topic, "partition.assignment.strategy", strategy.getName()};
        Member one = new Member(topic, options);
        Cases.eventually(() -> shared(6, one));
        spread(topic, 0);
        Member two = new Member(topic, options);
        Cases.eventually(() -> shared(6, one, two));
        spread(topic, 60);
        Member three = new Member(topic, options);
        Cases.eventually(() -> shared(6, one, two, three));
        spread(topic, 120);
        one.leave();
        Cases.eventually(() -> shared(6, two, three));
        spread(topic, 180);
        Cases.eventually(() -> {
            Set<Integer> seen = new TreeSet<>(one.values());
            seen.addAll(two.values());
            seen.addAll(three.values());
            return seen.size() == 240 ? null : seen.size() + " of 240 seen";
        });
        two.leave();
        three.leave();
    }

    private static void spread(String topic, int from) {
        try (Producer<byte[], byte[]> writer = producer()) {
            for (int i = from; i < from + 60; i++) {
                writer.send(new ProducerRecord<>(topic, i % 6, null, bytes("" + i)));
            }
        }
    }

    private static void staticMemberRestart() throws Exception {
        String topic = name("static");
        create(topic, 4, Map.of());
        Object[] first = {"group.id", topic, "group.instance.id", "one", "session.timeout.ms", 20_000};
        Object[] second = {"group.id", topic, "group.instance.id", "two", "session.timeout.ms", 20_000};
        Member one = new Member(topic, first);
        Member two = new Member(topic, second);
        Cases.eventually(() -> shared(4, one, two));
        String before = two.holds();
        int revocations = one.revocations;
        two.leave();
        Member again = new Member(topic, second);
        Cases.eventually(() -> shared(4, one, again));
        Cases.equal(again.holds(), before, "partitions of the member that came back");
        Cases.equal(one.revocations, revocations, "revocations of the member that stayed");
        again.leave();
        admin.removeMembersFromConsumerGroup(topic, new RemoveMembersFromConsumerGroupOptions(Set.of(new MemberToRemove("two")))).all().get();
        Cases.eventually(() -> shared(4, one));
        one.leave();
    }

    private static void adminGroups() throws Exception {
        String topic = name("groups");
        create(topic, 2, Map.of());
        write(topic, 0, 10);
        TopicPartition partition = new TopicPartition(topic, 0);
        Member member = new Member(topic, "group.id", topic, "client.id", "somebody");
        Cases.eventually(() -> member.values().size() == 10 ? null : "nothing consumed yet");
        Cases.expect(admin.listGroups().valid().get().stream().anyMatch(group -> group.groupId().equals(topic)), "not listed");
        var described = admin.describeConsumerGroups(List.of(topic)).describedGroups().get(topic).get();
        Cases.equal(described.groupState(), GroupState.STABLE, "state");
        Cases.equal(described.members().iterator().next().clientId(), "somebody", "client id");
        Cases.equal(described.members().iterator().next().assignment().topicPartitions().size(), 2, "assigned partitions");
        Cases.refused(GroupNotEmptyException.class, () -> admin.deleteConsumerGroups(List.of(topic)).all().get());
        member.leave();
        admin.alterConsumerGroupOffsets(topic, Map.of(partition, new OffsetAndMetadata(4))).all().get();
        var offsets = admin.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata().get();
        Cases.equal(offsets.get(partition).offset(), 4L, "moved offset");
        admin.deleteConsumerGroupOffsets(topic, Set.of(partition)).all().get();
        offsets = admin.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata().get();
        Cases.expect(offsets.get(partition) == null, "the deleted offset is " + offsets.get(partition));
        admin.deleteConsumerGroups(List.of(topic)).all().get();
        Cases.refused(GroupIdNotFoundException.class, () -> admin.deleteConsumerGroups(List.of(topic)).all().get());
        Cases.refused(GroupIdNotFoundException.class, () -> admin.describeConsumerGroups(List.of(topic)).all().get());
    }

    // ---- offsets

    private static void offsetsByTimestamp() throws Exception {
        String topic = name("times");
        create(topic, 1, Map.of());
        TopicPartition partition = new TopicPartition(topic, 0);
        long origin = System.currentTimeMillis() - 100_000;
        try (Producer<byte[], byte[]> writer = producer()) {
            for (int second : new int[] {0, 1, 9, 3, 4}) {
                writer.send(new ProducerRecord<>(topic, 0, origin + second * 1000, null, bytes("x"))).get();
            }
        }
        try (Consumer<byte[], byte[]> reader = consumer()) {
            OffsetAndTimestamp found = reader.offsetsForTimes(Map.of(partition, origin + 1500)).get(partition);
            Cases.equal(found.offset() + "@" + (found.timestamp() - origin), "2@9000", "at 1.5 s");
            Cases.expect(reader.offsetsForTimes(Map.of(partition, origin + 9001)).get(partition) == null, "after the greatest");
            Cases.equal(reader.beginningOffsets(List.of(partition)).get(partition), 0L, "beginning");
            Cases.equal(reader.endOffsets(List.of(partition)).get(partition), 5L, "end");
        }
        ListOffsetsResultInfo greatest = admin.listOffsets(Map.of(partition, OffsetSpec.maxTimestamp())).partitionResult(partition).get();
        Cases.equal(greatest.offset() + "@" + (greatest.timestamp() - origin), "2@9000", "max timestamp");
    }

    private static void offsetOutOfRange() throws Exception {
        String topic = name("range");
        create(topic, 1, Map.of());
        write(topic, 0, 5);
        try (Consumer<byte[], byte[]> reader = consumer("auto.offset.reset", "none")) {
            TopicPartition partition = new TopicPartition(topic, 0);
            reader.assign(List.of(partition));
            reader.seek(partition, 1000);
            Cases.refused(OffsetOutOfRangeException.class, () -> read(reader, 1));
        }
    }

    // ---- administration

    private static void adminTopics() throws Exception {
        String topic = name("admin");
        var created = admin.createTopics(List.of(new NewTopic(topic, 2, (short) 1).configs(Map.of("retention.ms", "3600000"))));
        Cases.equal(created.numPartitions(topic).get(), 2, "partitions created");
        Cases.equal(created.config(topic).get().get("retention.ms").value(), "3600000", "configuration created");
        Uuid id = created.topicId(topic).get();
        Cases.refused(TopicExistsException.class, () -> create(topic, 1, Map.of()));
        Cases.refused(InvalidTopicException.class, () -> create("not a name", 1, Map.of()));
        Cases.refused(InvalidPartitionsException.class, () -> create(topic + "-none", 0, Map.of()));
        Cases.refused(InvalidReplicationFactorException.class,
            () -> admin.createTopics(List.of(new NewTopic(topic + "-two", 1, (short) 2))).all().get());
        Cases.refused(InvalidConfigurationException.class, () -> create(topic + "-bad", 1, Map.of("retention.ms", "soon")));
        var described = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
        Cases.equal(described.topicId(), id, "topic id");
        Cases.equal(described.partitions().size(), 2, "partitions described");
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get();
        Cases.refused(InvalidPartitionsException.class,
            () -> admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all().get());
        Cases.eventually(() -> partitionsOf(topic) == 4 ? null : "not yet four partitions");
        // With an assignment by hand.
        NewTopic byHand = new NewTopic(topic + "-hand", Map.of(0, List.of(1), 1, List.of(1)));
        admin.createTopics(List.of(byHand)).all().get();
        admin.deleteTopics(List.of(topic, topic + "-hand")).all().get();
        Cases.refused(UnknownTopicOrPartitionException.class, () -> admin.deleteTopics(List.of(topic)).all().get());
    }

    private static int partitionsOf(String topic) {
        try {
            return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size();
        } catch (Exception notYet) {
            return 0;
        }
    }

    /** A topic is found by its id, in every round the same, and deleted by it in the last. */
    private static void adminTopicIds() throws Exception {
        String topic = name("ids");
        if (round == 0) {
            create(topic, 1, Map.of("flush.messages", "" + (7 + round)));
            write(topic, 0, 1);
        }
        Uuid id = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId();
        var byId = admin.describeTopics(org.apache.kafka.common.TopicCollection.ofTopicIds(List.of(id))).allTopicIds().get();
        Cases.equal(byId.get(id).name(), topic, "name of the id");
        Cases.equal(text(readAll(topic, 1).get(0).value()), "0", "value");
        if (round == 2) {
            admin.deleteTopics(org.apache.kafka.common.TopicCollection.ofTopicIds(List.of(id))).all().get();
            Cases.refused(UnknownTopicOrPartitionException.class, () -> admin.describeTopics(List.of(topic)).allTopicNames().get());
        }
    }

    private static Config configOf(ConfigResource resource) throws Exception {
        return admin.describeConfigs(List.of(resource)).all().get().get(resource);
    }

    private static String retention(ConfigResource topic) {
        try {
            return configOf(topic).get("retention.ms").value();
        } catch (Exception failure) {
            return failure.toString();
        }
    }

    private static void adminConfigs() throws Exception {
        String topic = name("configs");
        create(topic, 1, Map.of());
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        var set = new AlterConfigOp(new ConfigEntry("retention.ms", "99000"), AlterConfigOp.OpType.SET);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(set))).all().get();
        Cases.eventually(() -> retention(resource).equals("99000") ? null : "retention.ms is " + retention(resource));
        ConfigEntry entry = configOf(resource).get("retention.ms");
        Cases.equal(entry.source(), ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "source of retention.ms");
        Cases.equal(configOf(resource).get("segment.bytes").source(), ConfigEntry.ConfigSource.DEFAULT_CONFIG, "segment.bytes");
        Cases.equal(configOf(resource).get("cleanup.policy").type(), ConfigEntry.ConfigType.LIST, "type of cleanup.policy");
        var delete = new AlterConfigOp(new ConfigEntry("retention.ms", ""), AlterConfigOp.OpType.DELETE);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(delete))).all().get();
        Cases.eventually(() -> retention(resource).equals("604800000") ? null : "retention.ms is " + retention(resource));
        var bad = new AlterConfigOp(new ConfigEntry("retention.ms", "soon"), AlterConfigOp.OpType.SET);
        Cases.refused(InvalidConfigurationException.class,
            () -> admin.incrementalAlterConfigs(Map.of(resource, List.of(bad))).all().get());
        Config broker = configOf(new ConfigResource(ConfigResource.Type.BROKER, "1"));
        Cases.equal(broker.get("num.partitions").value(), "3", "num.partitions");
        Cases.expect(broker.get("log.dirs") != null && broker.get("node.id") != null, "the broker hides its configuration");
    }

    private static void adminDeleteRecords() throws Exception {
        String topic = name("delete-records");
        create(topic, 1, Map.of());
        write(topic, 0, 50);
        TopicPartition partition = new TopicPartition(topic, 0);
        var deleted = admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(20))).lowWatermarks().get(partition).get();
        Cases.equal(deleted.lowWatermark(), 20L, "low watermark");
        Cases.equal(numbers(readAll(topic, 30)), range(20, 50), "what is left");
        Cases.refused(org.apache.kafka.common.errors.OffsetOutOfRangeException.class,
            () -> admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(51))).all().get());
    }

    private static void adminCluster() throws Exception {
        var cluster = admin.describeCluster();
        Cases.equal(cluster.nodes().get().stream().map(node -> node.host() + ":" + node.port()).toList(), List.of(bootstrap), "nodes");
        Cases.expect(!cluster.clusterId().get().isEmpty(), "no cluster id");
        Node controller = cluster.controller().get();
        Cases.equal(controller.id(), cluster.nodes().get().iterator().next().id(), "controller");
        var directories = admin.describeLogDirs(List.of(controller.id())).allDescriptions().get().get(controller.id());
        Cases.equal(directories.size(), 1, "log directories");
        var directory = directories.values().iterator().next();
        Cases.expect(directory.totalBytes().orElse(0) > directory.usableBytes().orElse(0), "sizes of the volume");
        Cases.expect(directory.replicaInfos().containsKey(new TopicPartition(name("resume"), 0)), "a partition is not in it");
    }

    private static void unknownTopic() throws Exception {
        String topic = name("nowhere");
        Cases.refused(UnknownTopicOrPartitionException.class, () -> admin.describeTopics(List.of(topic)).allTopicNames().get());
        try (Consumer<byte[], byte[]> reader = consumer("allow.auto.create.topics", false, "default.api.timeout.ms", 1500,
                "request.timeout.ms", 1000)) {
            Cases.refused(TimeoutException.class, () -> reader.beginningOffsets(List.of(new TopicPartition(topic, 0))));
        }
        Cases.expect(!admin.listTopics().names().get().contains(topic), "asking created the topic");
    }
}
