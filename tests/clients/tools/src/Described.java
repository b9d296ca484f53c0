import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.common.config.ConfigResource;

/**
 * Prints every configuration key of one resource with what the protocol says of it, and what kafka-configs leaves out: its type, whether it is secret
 * or needs a restart, and what it is when nobody sets it. Called as {@code topic|broker|group NAME --bootstrap-server ADDRESS}.
 */
final class Described {
    public static void main(String[] arguments) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.valueOf(arguments[0].toUpperCase()), arguments[1]);
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", arguments[3]))) {
            DescribeConfigsOptions options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
            Config config = admin.describeConfigs(List.of(resource), options).all().get().get(resource);
            List<ConfigEntry> entries = new ArrayList<>(config.entries());
            entries.sort((a, b) -> a.name().compareTo(b.name()));
            for (ConfigEntry entry : entries) {
                System.out.println(entry.name() + " type=" + entry.type() + " sensitive=" + entry.isSensitive() + " read-only=" + entry.isReadOnly()
                    + " documented=" + (entry.documentation() != null && !entry.documentation().isEmpty()) + " default=" + defaultOf(entry));
            }
        }
    }

    private static String defaultOf(ConfigEntry entry) {
        for (ConfigEntry.ConfigSynonym synonym : entry.synonyms()) {
            if (synonym.source() == ConfigEntry.ConfigSource.DEFAULT_CONFIG) {
                return synonym.name() + "=" + synonym.value();
            }
        }
        return "none";
    }

    private Described() {}
}
