// The loop in C on librdkafka, the very library that the Python client brings: the floor of what a record costs.
// Declares the few functions it uses, so that it needs no header of another version.
// Arguments: servers, topic, group, records, warm, seconds. Prints what meter.py prints.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    int err;
    void *topic;
    int32_t partition;
    void *payload;
    size_t len;
    void *key;
    size_t key_len;
    int64_t offset;
    void *internal;
} message_t;

extern void *rd_kafka_conf_new(void);
extern int rd_kafka_conf_set(void *, const char *, const char *, char *, size_t);
extern void *rd_kafka_new(int, void *, char *, size_t);
extern int rd_kafka_poll_set_consumer(void *);
extern void *rd_kafka_topic_partition_list_new(int);
extern void *rd_kafka_topic_partition_list_add(void *, const char *, int32_t);
extern int rd_kafka_subscribe(void *, void *);
extern void *rd_kafka_queue_get_consumer(void *);
extern ssize_t rd_kafka_consume_batch_queue(void *, int, message_t **, size_t);
extern void rd_kafka_message_destroy(message_t *);

static double wall(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static double cpu(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv) {
    if (argc != 7) return 2;
    long goal = atol(argv[4]), warm = atol(argv[5]), seen = 0, since = 0;
    double seconds = atof(argv[6]), began = 0, used = 0;
    const char *settings[][2] = {{"bootstrap.servers", argv[1]}, {"group.id", argv[3]}, {"auto.offset.reset", "earliest"},
        {"enable.auto.commit", "false"}, {"fetch.queue.backoff.ms", "10"}};
    char error[512];
    void *conf = rd_kafka_conf_new();
    for (int at = 0; at < 5; at++)
        if (rd_kafka_conf_set(conf, settings[at][0], settings[at][1], error, sizeof error)) return 3;
    void *client = rd_kafka_new(1, conf, error, sizeof error);
    if (!client) return 4;
    rd_kafka_poll_set_consumer(client);
    void *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, argv[2], -1);
    if (rd_kafka_subscribe(client, topics)) return 5;
    void *queue = rd_kafka_queue_get_consumer(client);
    message_t *messages[500];
    uint64_t touched = 0;
    double give_up_at = wall() + 60;
    for (;;) {
        ssize_t found = rd_kafka_consume_batch_queue(queue, 200, messages, 500);
        for (ssize_t at = 0; at < found; at++) {
            message_t *one = messages[at];
            if (!one->err) {
                touched += (uint64_t)one->offset + (uint64_t)one->partition + one->len + one->key_len
                    + (one->len ? *(unsigned char *)one->payload : 0) + (one->key_len ? *(unsigned char *)one->key : 0);
                seen++;
            }
            rd_kafka_message_destroy(one);
        }
        if (!began && seen >= warm && seen) { began = wall(); used = cpu(); since = seen; }
        if (began && (seen >= goal || wall() - began > seconds)) break;
        if (!began && wall() > give_up_at) return 6;
    }
    double took = wall() - began, spent = cpu() - used;
    struct rusage peak;
    getrusage(RUSAGE_SELF, &peak);
    fprintf(stderr, "touched %llu\n", (unsigned long long)touched);
    printf("\nresult {\"records\": %ld, \"seconds\": %f, \"per_s\": %f, \"cpu_us\": %f, \"peak_mb\": %f}\n",
        seen - since, took, (seen - since) / took, spent / (seen - since) * 1e6, peak.ru_maxrss / 1024.0);
    fflush(stdout);
    _exit(0);
}
