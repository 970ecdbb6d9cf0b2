// Command clusterbench drives a cluster of etcd or of NATS through its own Go client. It takes commands from its standard input, one
// JSON object a line, and answers each with one on its standard output: {"do":"put","inFlight":200,"seconds":2} is answered with the
// rate and the latencies of that time.
//
// Usage: clusterbench -kind etcd|nats -endpoints http://127.0.0.1:1,http://127.0.0.1:2,http://127.0.0.1:3
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"
)

// subject is a cluster under measure. Keys are numbers below `keys`.
type subject interface {
	// aim connects to where the next operations go: the leader.
	aim(ctx context.Context) error
	put(ctx context.Context, worker, key int, value []byte) error
	// get is linearizable, or unsupported.
	get(ctx context.Context, worker, key int) error
	// staleGet may be answered by any replica.
	staleGet(ctx context.Context, worker, key int) error
	// watch tells of each change of the key "watched" until ctx ends.
	watch(ctx context.Context) (<-chan struct{}, error)
	putWatched(ctx context.Context) error
	// probe is a put by a client that knows all nodes.
	probe(ctx context.Context) error
	// leader is the number of the endpoint that leads.
	leader(ctx context.Context) (int, error)
	// settled is nil when every node is there and has what the leader has.
	settled(ctx context.Context) error
}

type command struct {
	Do       string  `json:"do"`
	InFlight int     `json:"inFlight"`
	Seconds  float64 `json:"seconds"`
}

type answer struct {
	PerSecond    float64 `json:"perSecond,omitempty"`
	MedianMicros float64 `json:"medianMicros,omitempty"`
	P99Micros    float64 `json:"p99Micros,omitempty"`
	CPUSeconds   float64 `json:"cpuSeconds,omitempty"`
	Leader       int     `json:"leader"`
	Error        string  `json:"error,omitempty"`
}

const (
	keys             = 10000
	valueBytes       = 256
	operationTimeout = 30 * time.Second
	probeEvery       = 20 * time.Millisecond
	patience         = 60 * time.Second
)

func main() {
	kind := flag.String("kind", "etcd", "etcd or nats")
	endpoints := flag.String("endpoints", "", "client addresses of the nodes, with commas between")
	connections := flag.Int("connections", 20, "client connections")
	flag.Parse()
	nodes := strings.Split(*endpoints, ",")
	var cluster subject
	var err error
	if *kind == "nats" {
		cluster, err = openNats(nodes, *connections)
	} else {
		cluster, err = openEtcd(nodes, *connections)
	}
	out := json.NewEncoder(os.Stdout)
	if err != nil {
		_ = out.Encode(answer{Error: err.Error()})
		os.Exit(1)
	}
	_ = out.Encode(answer{})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var asked command
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			_ = out.Encode(answer{Error: err.Error()})
			continue
		}
		answered, err := perform(cluster, asked)
		if err != nil {
			answered.Error = err.Error()
		}
		_ = out.Encode(answered)
	}
}

func perform(cluster subject, asked command) (answer, error) {
	ctx := context.Background()
	value := make([]byte, valueBytes)
	for i := range value {
		value[i] = byte('a' + i%26)
	}
	timed := func(operation func(ctx context.Context, worker, key int) error) (answer, error) {
		return run(asked, func(worker, i int) error {
			ctx, cancel := context.WithTimeout(ctx, operationTimeout)
			defer cancel()
			return operation(ctx, worker, i%keys)
		})
	}
	switch asked.Do {
	case "aim":
		return answer{}, until(func(ctx context.Context) error { return cluster.aim(ctx) })
	case "fill":
		return fill(func(worker, key int) error { return cluster.put(ctx, worker, key, value) })
	case "put":
		return timed(func(ctx context.Context, worker, key int) error { return cluster.put(ctx, worker, key, value) })
	case "get":
		return timed(cluster.get)
	case "staleGet":
		return timed(cluster.staleGet)
	case "watch":
		return watchLatency(ctx, cluster, asked.Seconds)
	case "probe":
		return answer{}, probe(cluster)
	case "leader":
		leader, err := cluster.leader(ctx)
		return answer{Leader: leader}, err
	case "settled":
		return answer{}, until(cluster.settled)
	}
	return answer{}, fmt.Errorf("no command %q", asked.Do)
}

// run keeps `inFlight` operations under way for the time asked.
func run(asked command, operation func(worker, i int) error) (answer, error) {
	micros := make([][]float64, asked.InFlight)
	failed := make([]error, asked.InFlight)
	var group sync.WaitGroup
	cpu := cpuSeconds()
	begun := time.Now()
	end := begun.Add(time.Duration(asked.Seconds * float64(time.Second)))
	for worker := 0; worker < asked.InFlight; worker++ {
		group.Add(1)
		go func(worker int) {
			defer group.Done()
			// Keys are walked from a different one by each worker.
			for i := worker * keys / asked.InFlight; ; i++ {
				from := time.Now()
				if from.After(end) {
					return
				}
				if err := operation(worker, i); err != nil {
					failed[worker] = err
					return
				}
				micros[worker] = append(micros[worker], float64(time.Since(from).Microseconds()))
			}
		}(worker)
	}
	group.Wait()
	seconds := time.Since(begun).Seconds()
	used := cpuSeconds() - cpu
	all := []float64{}
	for worker, some := range micros {
		if failed[worker] != nil {
			return answer{}, failed[worker]
		}
		all = append(all, some...)
	}
	if len(all) == 0 {
		return answer{}, fmt.Errorf("nothing was done in %.1f s", asked.Seconds)
	}
	sort.Float64s(all)
	return answer{
		PerSecond:    float64(len(all)) / seconds,
		MedianMicros: all[len(all)/2],
		P99Micros:    all[len(all)*99/100],
		CPUSeconds:   used,
	}, nil
}

// fill puts each key once.
func fill(put func(worker, key int) error) (answer, error) {
	const workers = 200
	failed := make([]error, workers)
	var group sync.WaitGroup
	for worker := 0; worker < workers; worker++ {
		group.Add(1)
		go func(worker int) {
			defer group.Done()
			for key := worker; key < keys && failed[worker] == nil; key += workers {
				failed[worker] = put(worker, key)
			}
		}(worker)
	}
	group.Wait()
	for _, err := range failed {
		if err != nil {
			return answer{}, err
		}
	}
	return answer{}, nil
}

// watchLatency is the time from a put until its event is here, one after the other.
func watchLatency(ctx context.Context, cluster subject, seconds float64) (answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := cluster.watch(ctx)
	if err != nil {
		return answer{}, err
	}
	micros := []float64{}
	for end := time.Now().Add(time.Duration(seconds * float64(time.Second))); time.Now().Before(end); {
		begun := time.Now()
		written := make(chan error, 1)
		go func() { written <- cluster.putWatched(ctx) }()
		select {
		case <-events:
		case <-time.After(operationTimeout):
			return answer{}, fmt.Errorf("no event in %s", operationTimeout)
		}
		micros = append(micros, float64(time.Since(begun).Microseconds()))
		if err := <-written; err != nil {
			return answer{}, err
		}
	}
	sort.Float64s(micros)
	return answer{MedianMicros: micros[len(micros)/2], P99Micros: micros[len(micros)*99/100]}, nil
}

// probe begins a put every 20 ms and returns when the first is acknowledged.
func probe(cluster subject) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	acknowledged := make(chan struct{}, 1)
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	var last error
	var lock sync.Mutex
	for {
		go func() {
			err := cluster.probe(ctx)
			if err == nil {
				select {
				case acknowledged <- struct{}{}:
				default:
				}
				return
			}
			lock.Lock()
			last = err
			lock.Unlock()
		}()
		select {
		case <-acknowledged:
			return nil
		case <-ctx.Done():
			lock.Lock()
			defer lock.Unlock()
			return fmt.Errorf("no put was acknowledged in %s; last: %v", patience, last)
		case <-ticker.C:
		}
	}
}

// until repeats what a cluster can do only when all of it is there.
func until(try func(ctx context.Context) error) error {
	deadline := time.Now().Add(patience)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		err := try(ctx)
		cancel()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}
