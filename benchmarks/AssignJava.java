// Plans groups with Kafka's own sticky assignor, for benchmarks/assign.py, which starts it and asks line by line.
// Reads and answers what assign_go/main.go does.
import java.io.*;
import java.nio.ByteBuffer;
import java.util.*;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Subscription;
import org.apache.kafka.clients.consumer.StickyAssignor;
import org.apache.kafka.common.*;

public class AssignJava {
    static Map<String, List<PartitionInfo>> topics = new LinkedHashMap<>();
    static List<List<String>> subscriptions = new ArrayList<>();
    static Map<String, byte[]> data = new LinkedHashMap<>();
    static Map<String, List<String>> subscribed = new LinkedHashMap<>();
    static double took;

    static Map<String, List<TopicPartition>> planned() {
        Map<String, Subscription> said = new HashMap<>();
        subscribed.forEach((name, names) -> {
            byte[] bytes = data.get(name);
            said.put(name, bytes.length == 0 ? new Subscription(names) : new Subscription(names, ByteBuffer.wrap(bytes)));
        });
        long began = System.nanoTime();
        Map<String, List<TopicPartition>> found = new StickyAssignor().assignPartitions(topics, said);
        took = (System.nanoTime() - began) / 1e9;
        return found;
    }

    static void answer(PrintWriter out, int rounds) {
        try {
            Map<String, List<TopicPartition>> found = planned();
            double best = took;
            for (int round = 1; round < rounds && best < 5; round++) {
                planned();
                best = Math.min(best, took);
            }
            Map<String, Integer> number = new HashMap<>();
            topics.keySet().forEach(name -> number.put(name, number.size()));
            out.printf(Locale.ROOT, "took %.6f%n", best);
            found.forEach((name, owned) -> {
                StringBuilder line = new StringBuilder("owned ").append(name);
                for (TopicPartition one : owned) {
                    line.append(' ').append(number.get(one.topic())).append(':').append(one.partition());
                }
                out.println(line);
            });
        } catch (RuntimeException error) {
            out.println("raised " + error.toString().replace('\n', ' '));
        }
        out.println("done");
        out.flush();
        topics = new LinkedHashMap<>();
        subscriptions = new ArrayList<>();
        data = new LinkedHashMap<>();
        subscribed = new LinkedHashMap<>();
    }

    static void topic(String name, int partitions) {
        List<PartitionInfo> infos = new ArrayList<>();
        for (int p = 0; p < partitions; p++) {
            infos.add(new PartitionInfo(name, p, Node.noNode(), new Node[0], new Node[0]));
        }
        topics.put(name, infos);
    }

    public static void main(String[] given) throws IOException {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in), 1 << 20);
        PrintWriter out = new PrintWriter(new BufferedWriter(new OutputStreamWriter(System.out), 1 << 20));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split(" ", -1);
            switch (words[0]) {
                case "topic" -> topic(words[1], Integer.parseInt(words[2]));
                case "subscription" -> {
                    List<String> names = new ArrayList<>(topics.keySet());
                    subscriptions.add(Arrays.stream(words[1].split(",")).filter(n -> !n.isEmpty())
                        .map(n -> names.get(Integer.parseInt(n))).toList());
                }
                case "member" -> {
                    subscribed.put(words[1], subscriptions.get(Integer.parseInt(words[2])));
                    data.put(words[1], HexFormat.of().parseHex(words[3]));
                }
                case "plan" -> answer(out, Integer.parseInt(words[1]));
            }
        }
    }
}
