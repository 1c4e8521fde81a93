// Confluent's Parallel Consumer, or its fork: the job of members/meter.py, in Java.
// Arguments: servers, topic, group, KEY | PARTITION | UNORDERED, maxConcurrency (0: its default), work in milliseconds,
// records, warm, seconds, "rate" | "latency" | "idle", every how many offsets the first try fails (0: none).
import io.confluent.parallelconsumer.*;
import java.lang.management.ManagementFactory;
import java.nio.file.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class ParallelConsumerApp {
    static final LongAdder handled = new LongAdder();
    static final List<Double> ages = Collections.synchronizedList(new ArrayList<>());
    static volatile long firstAt, since;

    static double cpu() {
        return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime() / 1e9;
    }

    static double peakMb() throws Exception {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith("VmHWM")) return Double.parseDouble(line.replaceAll("[^0-9]", "")) / 1024;
        }
        return 0;
    }

    static void see(ConsumerRecord<byte[], byte[]> record) {
        long now = System.currentTimeMillis(), age = now - record.timestamp();
        boolean hot = "key-000000000000".equals(record.key() == null ? "" : new String(record.key()));
        if (firstAt == 0) firstAt = now;
        if (since == 0) {
            if ((!hot && age < 100 && now > firstAt + 1000) || now > firstAt + 10_000) since = now;
        } else if (!hot) {
            ages.add((double) age);
        }
    }

    static void answer(String format, Object... values) throws Exception {
        System.out.printf(Locale.ROOT, "%nresult " + format + "%n", values);
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    public static void main(String[] given) throws Exception {
        String mode = given[9];
        long workMs = Long.parseLong(given[5]), goal = Long.parseLong(given[6]), warm = Long.parseLong(given[7]);
        double seconds = Double.parseDouble(given[8]);
        long failEvery = Long.parseLong(given[10]);
        Properties settings = new Properties();
        settings.put("bootstrap.servers", given[0]);
        settings.put("group.id", given[2]);
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        settings.put("key.deserializer", ByteArrayDeserializer.class.getName());
        settings.put("value.deserializer", ByteArrayDeserializer.class.getName());
        var options = ParallelConsumerOptions.<byte[], byte[]>builder()
            .consumer(new KafkaConsumer<>(settings))
            .ordering(ParallelConsumerOptions.ProcessingOrder.valueOf(given[3]));
        int concurrency = Integer.parseInt(given[4]);
        if (concurrency > 0) options.maxConcurrency(concurrency);
        if (failEvery > 0) options.defaultMessageRetryDelay(Duration.ofMillis(10));
        var processor = ParallelStreamProcessor.createEosStreamProcessor(options.build());
        processor.subscribe(List.of(given[1]));
        boolean latency = mode.equals("latency");
        processor.poll(context -> {
            var record = context.getSingleConsumerRecord();
            if (latency) see(record);
            if (workMs > 0) {
                try {
                    Thread.sleep(workMs);
                } catch (InterruptedException stopped) {
                    Thread.currentThread().interrupt();
                }
            }
            if (failEvery > 0 && record.offset() % failEvery == 0 && context.getSingleRecord().getNumberOfFailedAttempts() == 0) {
                throw new PCRetriableException("the failing share");
            }
            handled.increment();
        });
        if (mode.equals("idle")) {
            Thread.sleep(8000);
            double used = cpu();
            Thread.sleep((long) (seconds * 1000));
            answer("{\"idle_share\": %f, \"peak_mb\": %f}", (cpu() - used) / seconds, peakMb());
        }
        if (latency) {
            while (since == 0 || System.currentTimeMillis() < since + seconds * 1000) Thread.sleep(20);
            List<Double> found = new ArrayList<>(List.copyOf(ages));
            Collections.sort(found);
            answer("{\"records\": %d, \"p50_ms\": %f, \"p99_ms\": %f, \"max_ms\": %f, \"peak_mb\": %f}", found.size(),
                found.get(found.size() / 2), found.get((int) (found.size() * 0.99)), found.get(found.size() - 1), peakMb());
        }
        long giveUpAt = System.currentTimeMillis() + 60_000, warmUntil = 0;
        while (true) {
            long now = System.currentTimeMillis(), seen = handled.sum();
            if (seen > 0 && warmUntil == 0) warmUntil = now + 10_000;  // a JIT needs longer than an interpreter
            if (warmUntil > 0 && (seen >= warm || now > warmUntil)) break;
            if (now > giveUpAt) answer("{\"error\": \"no record in 60 s\"}");
            Thread.sleep(5);
        }
        long sinceCount = handled.sum(), began = System.nanoTime();
        double used = cpu();
        while (handled.sum() < goal && (System.nanoTime() - began) / 1e9 < seconds) Thread.sleep(5);
        double took = (System.nanoTime() - began) / 1e9;
        long counted = handled.sum() - sinceCount;
        if (counted == 0) answer("{\"error\": \"nothing was handled in %f s\"}", seconds);
        answer("{\"records\": %d, \"seconds\": %f, \"per_s\": %f, \"cpu_us\": %f, \"peak_mb\": %f}", counted, took,
            counted / took, (cpu() - used) / counted * 1e6, peakMb());
    }
}
