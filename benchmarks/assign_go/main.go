// Plans groups with the sticky balancers of Sarama or franz-go, for benchmarks/assign.py, which starts it and asks line by line.
// Reads: topic NAME PARTITIONS, subscription TOPIC,TOPIC, member ID SUBSCRIPTION USERDATA, plan ROUNDS. Topics and
// subscriptions are named by their numbers. Answers: took SECONDS, owned MEMBER TOPIC:PARTITION,..., or raised WHY; then done.
package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type member struct {
	id       string
	topics   []string
	userData []byte
}

type group struct {
	names         []string
	sizes         map[string]int32
	subscriptions [][]string
	members       []member
}

type owned map[string]map[string][]int32

func withSarama(g *group) (owned, error) {
	topics := map[string][]int32{}
	for name, size := range g.sizes {
		for p := int32(0); p < size; p++ {
			topics[name] = append(topics[name], p)
		}
	}
	said := map[string]sarama.ConsumerGroupMemberMetadata{}
	for _, m := range g.members {
		said[m.id] = sarama.ConsumerGroupMemberMetadata{Topics: m.topics, UserData: m.userData}
	}
	began := time.Now()
	plan, err := sarama.NewBalanceStrategySticky().Plan(said, topics)
	took = time.Since(began)
	return owned(plan), err
}

func withFranzGo(g *group) (owned, error) {
	var said []kmsg.JoinGroupResponseMember
	for _, m := range g.members {
		metadata := kmsg.NewConsumerMemberMetadata()
		metadata.Topics, metadata.UserData = m.topics, m.userData
		one := kmsg.NewJoinGroupResponseMember()
		one.MemberID, one.ProtocolMetadata = m.id, metadata.AppendTo(nil)
		said = append(said, one)
	}
	began := time.Now()
	balancer, _, err := kgo.StickyBalancer().MemberBalancer(said)
	if err != nil {
		return nil, err
	}
	into, err := balancer.(kgo.GroupMemberBalancerOrError).BalanceOrError(g.sizes)
	took = time.Since(began)
	if err != nil {
		return nil, err
	}
	return owned(into.(*kgo.BalancePlan).AsMemberIDMap()), nil
}

var took time.Duration

func planned(plan func(*group) (owned, error), g *group) (found owned, err error) {
	defer func() {
		if what := recover(); what != nil {
			err = fmt.Errorf("%v", what)
		}
	}()
	return plan(g)
}

func answer(out *bufio.Writer, g *group, found owned, err error, best time.Duration) {
	if err != nil {
		fmt.Fprintf(out, "raised %s\ndone\n", strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	number := map[string]int{}
	for n, name := range g.names {
		number[name] = n
	}
	fmt.Fprintf(out, "took %.6f\n", best.Seconds())
	for id, byTopic := range found {
		fmt.Fprintf(out, "owned %s", id)
		for name, partitions := range byTopic {
			fmt.Fprintf(out, " %d:", number[name])
			for at, p := range partitions {
				if at > 0 {
					out.WriteByte(',')
				}
				out.WriteString(strconv.Itoa(int(p)))
			}
		}
		out.WriteByte('\n')
	}
	out.WriteString("done\n")
}

func main() {
	plan := map[string]func(*group) (owned, error){"sarama": withSarama, "franz-go": withFranzGo}[os.Args[1]]
	in, out := bufio.NewReaderSize(os.Stdin, 1<<20), bufio.NewWriterSize(os.Stdout, 1<<20)
	g := &group{sizes: map[string]int32{}}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		words := strings.Split(strings.TrimRight(line, "\n"), " ")
		switch words[0] {
		case "topic":
			size, _ := strconv.Atoi(words[2])
			g.names = append(g.names, words[1])
			g.sizes[words[1]] = int32(size)
		case "subscription":
			var topics []string
			for _, n := range strings.Split(words[1], ",") {
				if at, err := strconv.Atoi(n); err == nil {
					topics = append(topics, g.names[at])
				}
			}
			g.subscriptions = append(g.subscriptions, topics)
		case "member":
			subscription, _ := strconv.Atoi(words[2])
			var data []byte // nil is a member without history; Sarama refuses one of no bytes
			if words[3] != "" {
				data, _ = hex.DecodeString(words[3])
			}
			g.members = append(g.members, member{words[1], g.subscriptions[subscription], data})
		case "plan":
			rounds, _ := strconv.Atoi(words[1])
			found, err := planned(plan, g)
			best := took
			for round := 1; round < rounds && err == nil && best < time.Second; round++ {
				if _, err = planned(plan, g); took < best {
					best = took
				}
			}
			answer(out, g, found, err, best)
			out.Flush()
			g = &group{sizes: map[string]int32{}}
		}
	}
}
