// Times Kafka's own sticky assignor on the groups of benchmarks/assign.py: java -cp "$(ls -d .tools/kafka-*/)*" benchmarks/AssignJava.java
// Each size: fresh, after one member left, after one joined; the best of three in one process, so that the JIT is warm.
import java.nio.ByteBuffer;
import java.util.*;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Assignment;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Subscription;
import org.apache.kafka.clients.consumer.StickyAssignor;
import org.apache.kafka.common.*;

public class AssignJava {
    static Map<String, List<PartitionInfo>> topics(int count, int partitions) {
        Map<String, List<PartitionInfo>> made = new HashMap<>();
        for (int t = 0; t < count; t++) {
            String name = String.format("topic-%04d", t);
            List<PartitionInfo> infos = new ArrayList<>();
            for (int p = 0; p < partitions; p++) {
                infos.add(new PartitionInfo(name, p, Node.noNode(), new Node[0], new Node[0]));
            }
            made.put(name, infos);
        }
        return made;
    }

    static Subscription claiming(List<String> names, List<TopicPartition> owned) {
        if (owned == null) {
            return new Subscription(names);
        }
        StickyAssignor member = new StickyAssignor();
        member.onAssignment(new Assignment(owned), new ConsumerGroupMetadata("g", 1, "m", Optional.empty()));
        ByteBuffer data = member.subscriptionUserData(Set.copyOf(names));
        return new Subscription(names, data);
    }

    static double best(Map<String, List<PartitionInfo>> topics, Map<String, List<String>> group,
                       Map<String, List<TopicPartition>> owned, int rounds) {
        double best = Double.MAX_VALUE;
        for (int round = 0; round < rounds; round++) {
            Map<String, Subscription> said = new HashMap<>();
            group.forEach((name, names) -> said.put(name, claiming(names, owned.get(name))));
            long began = System.nanoTime();
            new StickyAssignor().assignPartitions(topics, said);
            best = Math.min(best, (System.nanoTime() - began) / 1e9);
        }
        return best;
    }

    static void measure(String label, Map<String, List<PartitionInfo>> topics, Map<String, List<String>> group, int rounds) {
        Map<String, Subscription> said = new HashMap<>();
        group.forEach((name, names) -> said.put(name, new Subscription(names)));
        Map<String, List<TopicPartition>> owned = new StickyAssignor().assignPartitions(topics, said);
        Map<String, List<String>> left = new TreeMap<>(group);
        List<String> first = group.get("member-00000");
        left.remove("member-00000");
        Map<String, List<String>> joined = new TreeMap<>(group);
        joined.put("newcomer", first);
        System.out.printf("%-40s fresh %8.3f s  one leaves %8.3f s  one joins %8.3f s%n", label,
            best(topics, group, Map.of(), rounds), best(topics, left, owned, rounds), best(topics, joined, owned, rounds));
    }

    public static void main(String[] given) {
        int[][] sizes = {{10, 10, 10}, {50, 40, 100}, {100, 100, 200}, {200, 200, 500}, {2000, 500, 2000}};
        for (int[] size : sizes) {
            Map<String, List<PartitionInfo>> topics = topics(size[0], size[1]);
            List<String> names = new ArrayList<>(new TreeSet<>(topics.keySet()));
            Map<String, List<String>> group = new TreeMap<>();
            for (int m = 0; m < size[2]; m++) {
                group.put(String.format("member-%05d", m), names);
            }
            measure(size[0] + " x " + size[1] + ", " + size[2] + " members", topics, group, 3);
        }
        Map<String, List<PartitionInfo>> topics = topics(100, 200);
        List<String> names = new ArrayList<>(new TreeSet<>(topics.keySet()));
        Map<String, List<String>> halves = new TreeMap<>();
        for (int m = 0; m < 500; m++) {
            halves.put(String.format("member-%05d", m), m % 4 == 0 ? names.subList(0, 50) : names.subList(50, 100));
        }
        measure("100 x 200, 500 members, two halves", topics, halves, 2);
    }
}
