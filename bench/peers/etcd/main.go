// Command etcdbench drives one etcd through its own Go client and prints one JSON object of rates and latencies.
//
// Usage: etcdbench -endpoint http://127.0.0.1:2379 -n 20000 -inflight 200 -connections 20
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

type result struct {
	PutsOne     float64 `json:"putsOnePerSecond"`
	PutsMany    float64 `json:"putsManyPerSecond"`
	GetsOne     float64 `json:"getsOnePerSecond"`
	GetsMany    float64 `json:"getsManyPerSecond"`
	WatchMedian float64 `json:"putToWatchMedianMicros"`
	FanOut      float64 `json:"fanOutEventsPerSecond"`
}

func main() {
	endpoint := flag.String("endpoint", "http://127.0.0.1:2379", "client address of etcd")
	n := flag.Int("n", 20000, "operations with many in flight; a tenth of it one at a time")
	inflight := flag.Int("inflight", 200, "operations in flight")
	connections := flag.Int("connections", 20, "client connections")
	watchers := flag.Int("watchers", 1000, "watchers of the fan-out")
	flag.Parse()

	clients := make([]*clientv3.Client, *connections)
	for i := range clients {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{*endpoint}, DialTimeout: 5 * time.Second})
		check(err)
		clients[i] = client
	}
	value := make([]byte, 256)
	for i := range value {
		value[i] = byte('a' + i%26)
	}
	ctx := context.Background()
	put := func(worker, i int) {
		_, err := clients[worker%len(clients)].Put(ctx, fmt.Sprintf("/bench/key-%d", i%10000), string(value))
		check(err)
	}
	get := func(worker, i int) {
		_, err := clients[worker%len(clients)].Get(ctx, fmt.Sprintf("/bench/key-%d", i%10000))
		check(err)
	}
	var out result
	run(*n/10, *inflight, put) // warm up, and keys for the reads
	out.PutsOne = run(*n/10, 1, put)
	out.PutsMany = run(*n, *inflight, put)
	out.GetsOne = run(*n/10, 1, get)
	out.GetsMany = run(*n*2, *inflight, get)
	out.WatchMedian = watchLatency(ctx, clients[0], clients[1%len(clients)], 1000)
	out.FanOut = fanOut(ctx, clients, *watchers, 20)
	check(json.NewEncoder(os.Stdout).Encode(out))
}

// run does n operations with the given number in flight and answers operations per second.
func run(n, inflight int, operation func(worker, i int)) float64 {
	var next atomic.Int64
	var group sync.WaitGroup
	begun := time.Now()
	for worker := 0; worker < inflight; worker++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				operation(worker, i)
			}
		}()
	}
	group.Wait()
	return float64(n) / time.Since(begun).Seconds()
}

func watchLatency(ctx context.Context, writer, reader *clientv3.Client, n int) float64 {
	watch := reader.Watch(ctx, "/watched", clientv3.WithCreatedNotify())
	<-watch
	var micros []float64
	for i := 0; i < n; i++ {
		begun := time.Now()
		go func() {
			_, err := writer.Put(ctx, "/watched", "x")
			check(err)
		}()
		<-watch
		micros = append(micros, float64(time.Since(begun).Microseconds()))
	}
	sort.Float64s(micros)
	return micros[len(micros)/2]
}

func fanOut(ctx context.Context, clients []*clientv3.Client, watchers, rounds int) float64 {
	var group, ready sync.WaitGroup
	for i := 0; i < watchers; i++ {
		group.Add(1)
		ready.Add(1)
		watch := clients[i%len(clients)].Watch(ctx, "/fanout", clientv3.WithCreatedNotify())
		go func() {
			defer group.Done()
			<-watch
			ready.Done()
			for seen := 0; seen < rounds; {
				seen += len((<-watch).Events)
			}
		}()
	}
	ready.Wait()
	begun := time.Now()
	for i := 0; i < rounds; i++ {
		_, err := clients[0].Put(ctx, "/fanout", "x")
		check(err)
	}
	group.Wait()
	return float64(watchers*rounds) / time.Since(begun).Seconds()
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "etcdbench:", err)
		os.Exit(1)
	}
}
