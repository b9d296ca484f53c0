"""The suite of Apache Kafka's command-line tools, as runbooks call them: by their flags, and by what they print.

Called as `suite.py BOOTSTRAP RUN ROUND [CASE]`, with the command that runs a tool's class in TOOLS_JAVA; see tests/clients/README.md.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python"))

from cases import BOOTSTRAP, EVERY, ROUND, RUN, case, equal, eventually, expect, perform_all

JAVA = os.environ["TOOLS_JAVA"].split(" ")
TOOLS = "org.apache.kafka.tools."
TOPIC, GROUPS, CONSOLE = TOOLS + "TopicCommand", TOOLS + "consumer.group.ConsumerGroupCommand", TOOLS + "consumer.ConsoleConsumer"
CONFIGS = "kafka.admin.ConfigCommand"


def name(part):
    return f"{RUN}-tools-{part}"


def tool(main, *arguments, stdin="", fails=False):
    """Runs one tool; what it printed. Its exit status must be as expected."""
    command = [*JAVA, main, "--bootstrap-server", BOOTSTRAP, *arguments]
    begun = time.monotonic()
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=90, check=False)
    took = time.monotonic() - begun
    print(f"--- {main} {' '.join(arguments)}: {done.returncode} ({took:.1f} s)\n{done.stdout}{done.stderr}", flush=True)
    if (done.returncode != 0) != fails:
        raise AssertionError(f"{main} ended with {done.returncode}: {(done.stdout + done.stderr).strip()[-300:]}")
    return done.stdout


def table(text, *columns):
    """The rows of a tool's table, restricted to these columns."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    start = next((i for i, line in enumerate(lines) if columns[0] in line), None)
    expect(start is not None, f"no table with {columns[0]} in: {text[:200]}")
    places = [lines[start].index(column) for column in columns]
    return sorted(tuple(line[place] for place in places) for line in lines[start + 1:] if len(line) == len(lines[start]))


def json_file(value):
    path = os.path.join(tempfile.mkdtemp(), "input.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file)
    return path


@case()
def topics():
    topic = name("topics")
    expect(f"Created topic {topic}." in tool(TOPIC, "--create", "--topic", topic, "--partitions", "2", "--config", "retention.ms=99000"),
           "not created")
    tool(TOPIC, "--create", "--topic", topic, fails=True)
    tool(TOPIC, "--create", "--topic", topic, "--if-not-exists")
    text = tool(TOPIC, "--describe", "--topic", topic)
    expect(re.search(r"PartitionCount: 2\s+ReplicationFactor: 1\s+Configs: .*retention.ms=99000", text), f"described as {text}")
    equal(len(re.findall(r"Partition: \d\s+Leader: (\d+)\s+Replicas: \1\s+Isr: \1", text)), 2, "partitions described")
    tool(TOPIC, "--alter", "--topic", topic, "--partitions", "4")
    eventually(lambda: None if "PartitionCount: 4" in tool(TOPIC, "--describe", "--topic", topic) else "not altered")
    expect(topic in tool(TOPIC, "--list").split(), "not listed")
    equal(tool(TOPIC, "--describe", "--unavailable-partitions").strip(), "", "unavailable partitions")
    tool(TOPIC, "--delete", "--topic", topic)
    eventually(lambda: "still listed" if topic in tool(TOPIC, "--list", "--exclude-internal").split() else None)
    tool(TOPIC, "--describe", "--topic", topic, fails=True)


def produce(topic, text, *options):
    separated = ("--reader-property", "parse.key=true", "--reader-property", "key.separator=:", "--reader-property", "null.marker=NULL")
    patient = ("--message-send-max-retries", "100", "--retry-backoff-ms", "200")
    tool(TOOLS + "ConsoleProducer", "--topic", topic, *patient, *separated, *options, stdin=text)


def consume(topic, count, *options):
    shown = [part for key in ("key", "headers", "offset") for part in ("--formatter-property", f"print.{key}=true")]
    text = tool(CONSOLE, "--topic", topic, "--max-messages", str(count), "--timeout-ms", "30000", *shown, *options)
    return [tuple(line.split("\t")) for line in text.splitlines()]


@case()
def console():
    """What the console producer writes, the console consumer prints; the group is left for the other cases and rounds."""
    topic = name("console")
    tool(TOPIC, "--create", "--topic", topic, "--partitions", "1", "--config", "message.timestamp.type=LogAppendTime")
    produce(topic, "a:1\nb:2\nNULL:3\nd:NULL\n")
    produce(topic, "e:5\n", "--compression-codec", "zstd")
    found = consume(topic, 5, "--from-beginning", "--group", name("group"))
    equal(found, [("Offset:0", "NO_HEADERS", "a", "1"), ("Offset:1", "NO_HEADERS", "b", "2"), ("Offset:2", "NO_HEADERS", "null", "3"),
                  ("Offset:3", "NO_HEADERS", "d", "null"), ("Offset:4", "NO_HEADERS", "e", "5")], "printed")


@case(EVERY)
def groups_describe():
    """The group is there with its offsets after every restart."""
    columns = ("GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG")
    ends = str(5 + 2 * ROUND)
    if ROUND > 0:
        produce(name("console"), f"r{ROUND}:1\ns{ROUND}:2\n")
    found = table(tool(GROUPS, "--describe", "--group", name("group")), *columns)
    equal(found, [(name("group"), name("console"), "0", str(5 + 2 * max(0, ROUND - 1)), ends, str(2 * min(ROUND, 1)))], "described")
    if ROUND > 0:
        found = consume(name("console"), 2, "--group", name("group"))
        equal([line[-2:] for line in found], [(f"r{ROUND}", "1"), (f"s{ROUND}", "2")], "consumed after the restart")


@case((0, 2))
def consumer_offsets_topic():
    """The records of __consumer_offsets, decoded by Kafka's own formatters."""

    def read(formatter):
        text = tool(CONSOLE, "--topic", "__consumer_offsets", "--from-beginning", "--timeout-ms", "3000", "--formatter",
                    f"{TOOLS}consumer.{formatter}")
        # The objects follow each other without a separator.
        decoder, at, found = json.JSONDecoder(), 0, []
        while at < len(text.rstrip()):
            value, at = decoder.raw_decode(text, at)
            found.append(value)
            at += len(text[at:]) - len(text[at:].lstrip())
        return found

    offsets = [record for record in read("OffsetsMessageFormatter") if record["key"]["data"]["group"] == name("group")]
    expect(offsets, "no offset of the group")
    newest = offsets[-1]
    equal((newest["key"]["data"]["topic"], newest["key"]["data"]["partition"]), (name("console"), 0), "key")
    equal(newest["value"]["data"]["offset"], 5 + 2 * ROUND, "offset")
    groups = [record for record in read("GroupMetadataMessageFormatter") if record["key"]["data"]["group"] == name("group")]
    states = [record["value"]["data"] for record in groups if record["value"]]
    expect(any(state["members"] for state in states), "no metadata with a member")
    expect(not states[-1]["members"], "the group is not empty at last")
    expect(all(state["protocolType"] == "consumer" for state in states if state["members"]), "protocol type")


@case()
def groups_reset():
    topic, group = name("reset"), name("reset")
    tool(TOPIC, "--create", "--topic", topic, "--partitions", "1")
    produce(topic, "".join(f"k:{i}\n" for i in range(10)))
    consume(topic, 10, "--from-beginning", "--group", group)
    reset = ("--group", group, "--topic", topic, "--reset-offsets", "--execute")
    for how, wanted in ((("--to-earliest",), "0"), (("--to-offset", "7"), "7"), (("--shift-by", "-2"), "5"), (("--to-latest",), "10"),
                        (("--by-duration", "PT1H"), "0")):
        equal(table(tool(GROUPS, *reset, *how), "TOPIC", "PARTITION", "NEW-OFFSET"), [(topic, "0", wanted)], f"reset {how}")
    found = table(tool(GROUPS, "--list", "--state"), "GROUP", "STATE")
    expect((group, "Empty") in found, f"listed as {found}")
    expect("Successful" in tool(GROUPS, "--group", group, "--topic", topic + ":0", "--delete-offsets"), "offsets not deleted")
    expect("successful" in tool(GROUPS, "--group", group, "--delete"), "group not deleted")
    expect(group not in tool(GROUPS, "--list").split(), "still listed")


@case()
def groups_members():
    """A member as the tool shows it, while another tool is that member."""
    topic, group = name("members"), name("members")
    tool(TOPIC, "--create", "--topic", topic, "--partitions", "2")
    command = [*JAVA, CONSOLE, "--bootstrap-server", BOOTSTRAP, "--topic", topic, "--group", group, "--timeout-ms", "60000"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as member:
        try:
            eventually(lambda: None if re.search(rf"^{group}\s+Stable", tool(GROUPS, "--list", "--state"), re.M) else "not stable")
            text = tool(GROUPS, "--describe", "--group", group, "--members", "--verbose")
            expect("console-consumer" in text and re.search(rf"{topic}[(:]0,\s*1", text), f"members: {text}")
            text = tool(GROUPS, "--describe", "--group", group, "--state")
            expect(re.search(r"range\s+Stable\s+1", text), f"state: {text}")
        finally:
            member.terminate()
            member.wait(30)


@case()
def get_offsets():
    topic = name("get-offsets")
    tool(TOPIC, "--create", "--topic", topic, "--partitions", "2")
    produce(topic, "".join(f"k{i}:{i}\n" for i in range(20)))

    def total(*when):
        lines = tool(TOOLS + "GetOffsetShell", "--topic", topic, *when).split()
        return sum(int(line.rsplit(":", 1)[1]) for line in lines), len(lines)

    equal(total(), (20, 2), "latest")
    equal(total("--time", "earliest"), (0, 2), "earliest")
    equal(total("--time", "0"), (0, 2), "since 1970")
    expect(total("--time", "max-timestamp")[1] == 2, "max-timestamp")


@case()
def configs():
    topic = name("configs")
    tool(TOPIC, "--create", "--topic", topic)
    tool(CONFIGS, "--alter", "--topic", topic, "--add-config", "retention.ms=77000,cleanup.policy=[compact,delete]")
    eventually(lambda: None if "retention.ms=77000" in tool(CONFIGS, "--describe", "--topic", topic) else "not altered")
    text = tool(CONFIGS, "--describe", "--topic", topic)
    expect("cleanup.policy=compact,delete" in text, f"described as {text}")
    expect("DYNAMIC_TOPIC_CONFIG:retention.ms=77000" in text, f"no synonyms in {text}")
    tool(CONFIGS, "--alter", "--topic", topic, "--delete-config", "retention.ms")
    eventually(lambda: "not deleted" if "retention.ms" in tool(CONFIGS, "--describe", "--topic", topic) else None)
    text = tool(CONFIGS, "--describe", "--topic", topic, "--all")
    expect("synonyms={DEFAULT_CONFIG:log.retention.bytes=-1}" in text, "no defaults with --all")
    tool(CONFIGS, "--alter", "--topic", topic, "--add-config", "retention.ms=soon", fails=True)
    expect("num.partitions=3" in tool(CONFIGS, "--describe", "--broker", "1", "--all"), "the broker's configuration")


@case()
def delete_records():
    topic = name("delete-records")
    tool(TOPIC, "--create", "--topic", topic, "--partitions", "1")
    produce(topic, "".join(f"k:{i}\n" for i in range(10)))
    file = json_file({"version": 1, "partitions": [{"topic": topic, "partition": 0, "offset": 4}]})
    text = tool(TOOLS + "DeleteRecordsCommand", "--offset-json-file", file)
    expect(re.search(rf"{topic}-0\s+low_watermark: 4", text), text)
    equal([line[-1] for line in consume(topic, 6, "--from-beginning")], [str(i) for i in range(4, 10)], "what is left")


@case()
def log_dirs():
    topic = name("log-dirs")
    tool(TOPIC, "--create", "--topic", topic, "--partitions", "2")
    produce(topic, "k:v\n")
    text = tool(TOOLS + "LogDirsCommand", "--describe", "--topic-list", topic)
    described = json.loads(text.splitlines()[-1])
    directory = described["brokers"][0]["logDirs"][0]
    equal(directory["error"], None, "error")
    sizes = {part["partition"]: part["size"] for part in directory["partitions"]}
    equal(sorted(sizes), [f"{topic}-0", f"{topic}-1"], "partitions")
    expect(sum(sizes.values()) > 60, f"sizes {sizes}")


@case()
def verifiable_and_performance():
    topic = name("verifiable")
    tool(TOPIC, "--create", "--topic", topic, "--partitions", "2")
    text = tool(TOOLS + "VerifiableProducer", "--topic", topic, "--max-messages", "50", "--throughput", "-1")
    equal(text.count("producer_send_success"), 50, "acknowledged")
    text = tool(TOOLS + "VerifiableConsumer", "--topic", topic, "--group-id", topic, "--max-messages", "50", "--reset-policy", "earliest")
    consumed = sum(int(count) for count in re.findall(r'"records_consumed","count":(\d+)', text))
    equal(consumed, 50, "consumed")
    expect('"success":true' in text, "not committed")


@case(EVERY)
def cluster():
    text = tool(TOOLS + "BrokerApiVersionsCommand")
    for line in ("Produce(0): 0 to 13 [usable: 13]", "Fetch(1): 4 to 18", "Metadata(3): 0 to 13", "ApiVersions(18): 0 to "):
        expect(line in text, f"no {line!r} in the versions")


if __name__ == "__main__":
    perform_all()
