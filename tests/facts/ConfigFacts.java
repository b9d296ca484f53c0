// Prints what Apache Kafka's own definitions say about every configuration key, one line each:
//
//   kind  key  type  default  importance  allowed values  internal  may change
//
// It writes crates/metadata/src/config/tests/kafka.facts, which our table is compared with:
//
//   java -cp 'target/clients/kafka/libs/*' tests/facts/ConfigFacts.java > crates/metadata/src/config/tests/kafka.facts

import java.lang.reflect.Field;
import java.util.Set;
import java.util.TreeMap;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.coordinator.group.GroupConfig;
import org.apache.kafka.server.config.AbstractKafkaConfig;
import org.apache.kafka.server.config.DynamicBrokerConfig;
import org.apache.kafka.server.config.QuotaConfig;
import org.apache.kafka.server.metrics.ClientMetricsConfigs;
import org.apache.kafka.storage.internals.log.LogConfig;

public class ConfigFacts {
    public static void main(String[] arguments) throws ReflectiveOperationException {
        print("broker", AbstractKafkaConfig.CONFIG_DEF);
        print("broker-dynamic", QuotaConfig.brokerQuotaConfigs());
        print("topic", LogConfig.configDefCopy());
        print("group", GroupConfig.CONFIG_DEF);
        print("client-metrics", ClientMetricsConfigs.configDef());
        print("user", QuotaConfig.userAndClientQuotaConfigs());
        print("ip", QuotaConfig.ipConfigs());
    }

    private static void print(String kind, ConfigDef definitions) throws ReflectiveOperationException {
        for (ConfigDef.ConfigKey key : new TreeMap<>(definitions.configKeys()).values()) {
            boolean none = key.defaultValue == ConfigDef.NO_DEFAULT_VALUE;
            String text = none ? "<none>" : ConfigDef.convertToString(key.defaultValue, key.type);
            String allowed = key.validator == null ? "" : key.validator.toString();
            String change = kind.startsWith("broker") ? change(key.name) : "-";
            System.out.println(String.join("\t", kind, key.name, key.type.name(), String.valueOf(text),
                key.importance.name(), allowed, String.valueOf(key.internalConfig), change));
        }
    }

    private static String change(String key) throws ReflectiveOperationException {
        Field perBroker = DynamicBrokerConfig.class.getDeclaredField("PER_BROKER_CONFIGS");
        perBroker.setAccessible(true);
        if (((Set<?>) perBroker.get(null)).contains(key)) {
            return "per-broker";
        }
        return DynamicBrokerConfig.ALL_DYNAMIC_CONFIGS.contains(key) ? "cluster-wide" : "read-only";
    }
}
