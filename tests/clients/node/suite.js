// The suite of kafkajs, the client of Node, with codecs that need no compiler to install.
//
// Called as `node suite.js BOOTSTRAP RUN ROUND [CASE]`; see tests/clients/README.md.
'use strict'

const assert = require('node:assert/strict')
const {
  AssignerProtocol, CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, logLevel,
} = require('kafkajs')
const snappy = require('snappyjs')
const lz4 = require('lz4-napi')
const fzstd = require('fzstd')

const [bootstrap, run, roundText, only = ''] = process.argv.slice(2)
const round = Number(roundText)
const FIRST = [0], EVERY = [0, 1, 2]
const name = part => `${run}-node-${part}`

const retry = { initialRetryTime: 50, maxRetryTime: 500, retries: 20 }
const kafka = new Kafka({ clientId: 'node-suite', brokers: [bootstrap], logLevel: logLevel.NOTHING, retry })
const admin = kafka.admin()

// Java writes snappy in blocks with a header of its own; this is the reader of that framing.
const XERIAL = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0])
function unsnap(buffer) {
  if (!buffer.subarray(0, 8).equals(XERIAL)) return Buffer.from(snappy.uncompress(buffer))
  const blocks = []
  for (let at = 16; at < buffer.length;) {
    const size = buffer.readUInt32BE(at)
    blocks.push(Buffer.from(snappy.uncompress(buffer.subarray(at + 4, at + 4 + size))))
    at += 4 + size
  }
  return Buffer.concat(blocks)
}
CompressionCodecs[CompressionTypes.Snappy] = () => ({
  compress: async encoder => Buffer.from(snappy.compress(encoder.buffer)),
  decompress: async buffer => unsnap(buffer),
})
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => lz4.compressFrame(encoder.buffer),
  decompress: async buffer => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async () => { throw new Error('there is no zstd encoder in plain JavaScript') },
  decompress: async buffer => Buffer.from(fzstd.decompress(buffer)),
})
const CODECS = {
  none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy, lz4: CompressionTypes.LZ4,
}

async function eventually(question, seconds = 30) {
  const deadline = Date.now() + seconds * 1000
  for (;;) {
    const answer = await question()
    if (answer === undefined) return
    if (Date.now() > deadline) throw new Error(`waited in vain: ${answer}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

async function create(topic, numPartitions = 1, configEntries = []) {
  await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1, configEntries }], waitForLeaders: true })
}

async function write(topic, messages, options = {}, acks = -1) {
  const { compression = CompressionTypes.None, ...settings } = options
  const producer = kafka.producer({ allowAutoTopicCreation: false, ...settings })
  await producer.connect()
  const result = await producer.send({ topic, messages, compression, acks })
  await producer.disconnect()
  return result
}

// Reads from the beginning until there are so many; a group of its own each time.
let readers = 0
async function read(topic, count, groupId = name(`reader-${round}-${process.pid}-${readers++}`)) {
  const consumer = kafka.consumer({ groupId, heartbeatInterval: 300, maxWaitTimeInMs: 200, allowAutoTopicCreation: false })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  const found = []
  await consumer.run({
    eachMessage: async ({ partition, message }) => { if (found.length < count) found.push({ partition, ...message }) },
  })
  try {
    await eventually(() => (found.length >= count ? undefined : `${found.length} of ${count} records came`))
  } finally {
    await consumer.disconnect()
  }
  return found
}

async function refused(type, promise) {
  try {
    await promise
  } catch (error) {
    const types = [error.type, error.cause?.type, ...(error.errors ?? []).map(e => e.type)]
    assert.ok(types.includes(type), `expected ${type}, got ${types} (${error.message})`)
    return
  }
  assert.fail(`no error, expected ${type}`)
}

const numbered = (from, to) => Array.from({ length: to - from }, (_, i) => ({ value: String(from + i), partition: 0 }))
const values = records => records.map(record => record.value.toString())
const range = (from, to) => Array.from({ length: to - from }, (_, i) => String(from + i))
const codecValue = (writer, codec, i) => `${writer}/${codec}/${i}/` + 'all work and no play '.repeat(i)

const cases = {
  'json-autocreate': [FIRST, async () => {
    const topic = name('json')
    const messages = Array.from({ length: 200 }, (_, n) => ({ key: `k${n % 4}`, value: JSON.stringify({ n, text: 'ü' }) }))
    await write(topic, messages, { allowAutoTopicCreation: true })
    const found = (await read(topic, 200)).map(record => JSON.parse(record.value))
    assert.deepEqual(found.map(value => value.n).sort((a, b) => a - b), Array.from({ length: 200 }, (_, n) => n))
  }],

  'group-earliest': [FIRST, async () => {
    const topic = name('earliest'), group = name('earliest')
    await create(topic)
    await write(topic, numbered(0, 100))
    assert.deepEqual(values(await read(topic, 100, group)), range(0, 100))
    const [committed] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
    assert.equal(committed.partitions[0].offset, '100')
  }],

  'resume-from-commit': [EVERY, async () => {
    const topic = name('resume'), groupId = name('resume')
    if (round === 0) {
      await create(topic)
      await write(topic, numbered(0, 60))
    }
    const consumer = kafka.consumer({ groupId, heartbeatInterval: 300, maxWaitTimeInMs: 200 })
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    const found = []
    await consumer.run({ autoCommit: false, eachMessage: async ({ message }) => { found.push(message.value.toString()) } })
    await eventually(() => (found.length >= 20 ? undefined : `${found.length} of 20 records came`))
    assert.deepEqual(found.slice(0, 20), range(round * 20, round * 20 + 20))
    await consumer.commitOffsets([{ topic, partition: 0, offset: String(round * 20 + 20) }])
    await consumer.disconnect()
  }],

  'codecs-write': [FIRST, async () => {
    for (const [codec, compression] of Object.entries(CODECS)) {
      const topic = `${run}-codec-node-${codec}`
      await create(topic)
      const messages = Array.from({ length: 40 }, (_, i) => ({
        key: `k${i}`, value: codecValue('node', codec, i), headers: { n: String(i) }, partition: 0,
      }))
      await write(topic, messages, { compression })
    }
  }],

  'codecs-read': [EVERY, async () => {
    const prefix = `${run}-codec-` + (round === 0 ? 'node-' : '')
    const topics = (await admin.listTopics()).filter(topic => topic.startsWith(prefix))
    assert.ok(topics.length >= 4, `only ${topics}`)
    await Promise.all(topics.map(async topic => {
      const [, , writer, codec] = topic.split('-')
      const found = await read(topic, 40)
      found.forEach((record, i) => {
        assert.equal(record.key.toString(), `k${i}`, `${topic}: key at ${i}`)
        assert.equal(record.value.toString(), codecValue(writer, codec, i), `${topic}: value at ${i}`)
        assert.equal(record.headers.n.toString(), String(i), `${topic}: header at ${i}`)
      })
    }))
  }],

  'headers-and-nulls': [FIRST, async () => {
    const topic = name('headers')
    await create(topic)
    await write(topic, [
      { key: null, value: 'null key' }, { key: '', value: '' }, { key: 'tombstone', value: null },
      { key: Buffer.from([0xff]), value: Buffer.from([0x80, 0]), headers: { twice: ['1', '2'], bytes: Buffer.from([0xff, 0xfe]), empty: '' } },
    ])
    const found = await read(topic, 4)
    assert.deepEqual(found.map(r => [r.key && r.key.toString('latin1'), r.value && r.value.toString('latin1')]),
      [[null, 'null key'], ['', ''], ['tombstone', null], ['\xff', '\x80\0']])
    const headers = found[3].headers
    assert.deepEqual(headers.twice.map(String), ['1', '2'])
    assert.ok(headers.bytes.equals(Buffer.from([0xff, 0xfe])))
    assert.equal(headers.empty.length, 0)
  }],

  'large-records': [FIRST, async () => {
    const topic = name('large')
    await create(topic, 1, [{ name: 'max.message.bytes', value: '2000000' }])
    for (const letter of ['a', 'b']) await write(topic, [{ value: letter.repeat(1 << 20) }])
    const found = await read(topic, 2)
    assert.deepEqual(found.map(r => [r.value.length, String.fromCharCode(r.value[0])]), [[1 << 20, 'a'], [1 << 20, 'b']])
    await refused('MESSAGE_TOO_LARGE', write(topic, [{ value: 'x'.repeat(3_000_000) }], { retry: { retries: 0 } }))
  }],

  'idempotent-producer': [EVERY, async () => {
    const topic = name('idempotent')
    if (round === 0) await create(topic)
    const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1, allowAutoTopicCreation: false })
    await producer.connect()
    for (let i = 0; i < 10; i++) {
      await producer.send({ topic, messages: numbered(round * 100 + i * 10, round * 100 + i * 10 + 10) })
    }
    await producer.disconnect()
    assert.deepEqual(values(await read(topic, round * 100 + 100)), range(0, round * 100 + 100))
  }],

  'acks-none-and-leader': [FIRST, async () => {
    const topic = name('acks')
    await create(topic)
    for (const [i, acks] of [0, 1, -1].entries()) {
      await write(topic, numbered(i * 10, i * 10 + 10), {}, acks)
      await eventually(async () => {
        const [{ high }] = await admin.fetchTopicOffsets(topic)
        return Number(high) === i * 10 + 10 ? undefined : `the log ends at ${high}`
      })
    }
    assert.deepEqual(values(await read(topic, 30)), range(0, 30))
  }],

  rebalance: [FIRST, async () => {
    const topic = name('rebalance'), groupId = name('rebalance')
    await create(topic, 4)
    const seen = new Set()
    const join = async () => {
      const consumer = kafka.consumer({ groupId, heartbeatInterval: 300, sessionTimeout: 10000, maxWaitTimeInMs: 200 })
      await consumer.connect()
      await consumer.subscribe({ topic, fromBeginning: true })
      await consumer.run({ eachMessage: async ({ message }) => { seen.add(Number(message.value)) } })
      return consumer
    }
    const owned = async members => {
      const { groups: [group] } = await admin.describeGroups([groupId])
      if (group.state !== 'Stable' || group.members.length !== members) return `${group.state} with ${group.members.length} members`
      const parts = group.members.flatMap(member => AssignerProtocol.MemberAssignment.decode(member.memberAssignment).assignment[topic] ?? [])
      return parts.sort().join() === '0,1,2,3' ? undefined : `partitions ${parts}`
    }
    const spread = from => write(topic, Array.from({ length: 40 }, (_, i) => ({ value: String(from + i), partition: i % 4 })))
    const one = await join()
    await eventually(() => owned(1))
    await spread(0)
    const two = await join()
    await eventually(() => owned(2))
    await spread(40)
    await one.disconnect()
    await eventually(() => owned(1))
    await spread(80)
    await eventually(() => (seen.size >= 120 ? undefined : `${seen.size} of 120 seen`))
    await two.disconnect()
  }],

  'admin-topics': [FIRST, async () => {
    const topic = name('admin')
    await create(topic, 2, [{ name: 'retention.ms', value: '3600000' }])
    await refused('TOPIC_ALREADY_EXISTS', kafka.admin().createTopics({ topics: [{ topic }] }).then(created => {
      if (!created) throw Object.assign(new Error('not created'), { type: 'TOPIC_ALREADY_EXISTS' })
    }))
    await refused('INVALID_TOPIC_EXCEPTION', create('not a name'))
    const { topics: [described] } = await admin.fetchTopicMetadata({ topics: [topic] })
    assert.deepEqual(described.partitions.map(p => [p.partitionId, p.isr.length]).sort(), [[0, 1], [1, 1]])
    await admin.createPartitions({ topicPartitions: [{ topic, count: 4 }] })
    await eventually(async () => {
      const { topics: [now] } = await admin.fetchTopicMetadata({ topics: [topic] })
      return now.partitions.length === 4 ? undefined : `${now.partitions.length} partitions`
    })
    const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
    await admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries: [{ name: 'retention.ms', value: '7200000' }] }] })
    await eventually(async () => {
      const { resources: [config] } = await admin.describeConfigs({ includeSynonyms: true, resources: [resource] })
      const { configValue } = config.configEntries.find(entry => entry.configName === 'retention.ms')
      return configValue === '7200000' ? undefined : `retention.ms is ${configValue}`
    })
    await admin.deleteTopics({ topics: [topic] })
    await eventually(async () => ((await admin.listTopics()).includes(topic) ? 'still listed' : undefined))
  }],

  'admin-groups': [FIRST, async () => {
    const topic = name('groups'), groupId = name('groups')
    await create(topic)
    await write(topic, numbered(0, 20))
    await read(topic, 20, groupId)
    const { groups } = await admin.listGroups()
    assert.ok(groups.some(group => group.groupId === groupId), 'the group is not listed')
    await admin.resetOffsets({ groupId, topic, earliest: true })
    assert.deepEqual(values(await read(topic, 20, groupId)), range(0, 20))
    await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '15' }] })
    assert.deepEqual(values(await read(topic, 5, groupId)), range(15, 20))
    await admin.deleteGroups([groupId])
    const after = await admin.listGroups()
    assert.ok(!after.groups.some(group => group.groupId === groupId), 'the deleted group is listed')
  }],

  'admin-records-and-times': [FIRST, async () => {
    const topic = name('times')
    await create(topic)
    const origin = Date.now() - 100_000
    for (let i = 0; i < 10; i++) await write(topic, [{ value: String(i), timestamp: String(origin + i * 1000) }])
    const [at] = await admin.fetchTopicOffsetsByTimestamp(topic, origin + 4500)
    assert.equal(at.offset, '5')
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '3' }] })
    const [{ low, high }] = await admin.fetchTopicOffsets(topic)
    assert.deepEqual([low, high], ['3', '10'])
    assert.deepEqual(values(await read(topic, 7)), range(3, 10))
  }],

  'admin-cluster': [EVERY, async () => {
    const cluster = await admin.describeCluster()
    assert.deepEqual(cluster.brokers.map(b => `${b.host}:${b.port}`), [bootstrap])
    assert.equal(cluster.controller, cluster.brokers[0].nodeId)
    assert.ok(cluster.clusterId)
  }],

  'unknown-topic': [EVERY, async () => {
    const topic = name('nowhere')
    await refused('UNKNOWN_TOPIC_OR_PARTITION', admin.fetchTopicMetadata({ topics: [topic] }).then(({ topics: [found] }) => {
      // Where the client does not throw it shows a topic without partitions.
      if (found === undefined || found.partitions.length === 0) throw Object.assign(new Error(), { type: 'UNKNOWN_TOPIC_OR_PARTITION' })
    }))
    const impatient = { allowAutoTopicCreation: false, retry: { retries: 2, initialRetryTime: 50 } }
    await refused('UNKNOWN_TOPIC_OR_PARTITION', write(topic, [{ value: 'x' }], impatient))
    assert.ok(!(await admin.listTopics()).includes(topic), 'asking created the topic')
  }],
}

async function main() {
  await admin.connect()
  let failed = false
  for (const [title, [rounds, body]] of Object.entries(cases)) {
    if (!rounds.includes(round) || !title.includes(only)) continue
    const begun = Date.now()
    try {
      await body()
      console.log(`ok ${title} (${((Date.now() - begun) / 1000).toFixed(1)} s)`)
    } catch (error) {
      failed = true
      console.log(`FAIL ${title}: ${String(error.message).replaceAll(/\s+/g, ' ').slice(0, 400)}`)
      console.log(error.stack)
    }
  }
  await admin.disconnect()
  process.exit(failed ? 1 : 0)
}

// A promise that nobody waits for is a fault of the suite, not a crash of the process.
process.on('unhandledRejection', error => console.log('unhandled:', error?.message))
main().catch(error => {
  console.log(`FAIL suite: ${error.message}`)
  process.exit(1)
})
