// One member of a group, of Kafka's own client: says what it owns whenever that changes, until its input ends.
// Usage: java -cp JARS Member.java BOOTSTRAP GROUP TOPIC ASSIGNOR
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class Member {
    public static void main(String[] given) throws Exception {
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", given[0],
            "group.id", given[1],
            "partition.assignment.strategy", given[3],
            "session.timeout.ms", 10000,
            "heartbeat.interval.ms", 300,
            "key.deserializer", ByteArrayDeserializer.class,
            "value.deserializer", ByteArrayDeserializer.class);
        TreeSet<Integer> said = null;
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings)) {
            consumer.subscribe(List.of(given[2]));
            while (System.in.available() == 0) {
                consumer.poll(Duration.ofMillis(50));
                TreeSet<Integer> owned = new TreeSet<>();
                for (TopicPartition one : consumer.assignment()) {
                    owned.add(one.partition());
                }
                if (!owned.equals(said)) {
                    said = owned;
                    System.out.println("owned " + owned);
                }
            }
        }
    }
}
