package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const bucket = "bench"

// The names of the servers are s0, s1 and so on, in the order of the endpoints.
type natsKV struct {
	endpoints   []string
	connections int
	clients     []*nats.Conn
	buckets     []jetstream.KeyValue
	roaming     *nats.Conn
	stream      jetstream.JetStream
	everywhere  jetstream.KeyValue
}

var errUnsupported = errors.New("unsupported: reads of NATS KV are not linearizable")

func openNats(endpoints []string, connections int) (subject, error) {
	n := &natsKV{endpoints: endpoints, connections: connections}
	err := until(func(ctx context.Context) error {
		if n.roaming == nil {
			roaming, err := dialNats(strings.Join(endpoints, ","))
			if err != nil {
				return err
			}
			n.roaming = roaming
		}
		stream, err := jetstream.New(n.roaming)
		if err != nil {
			return err
		}
		n.stream = stream
		config := jetstream.KeyValueConfig{Bucket: bucket, Replicas: len(endpoints), History: 1, Storage: jetstream.FileStorage}
		n.everywhere, err = stream.CreateOrUpdateKeyValue(ctx, config)
		return err
	})
	return n, err
}

func dialNats(servers string) (*nats.Conn, error) {
	return nats.Connect(servers, nats.MaxReconnects(-1), nats.ReconnectWait(probeEvery), nats.ReconnectJitter(0, 0), nats.Timeout(time.Second),
		nats.ReconnectBufSize(-1))
}

func (n *natsKV) aim(ctx context.Context) error {
	leader, err := n.leader(ctx)
	if err != nil {
		return err
	}
	for _, client := range n.clients {
		client.Close()
	}
	n.clients, n.buckets = nil, nil
	for len(n.clients) < n.connections {
		client, err := nats.Connect(n.endpoints[leader])
		if err != nil {
			return err
		}
		n.clients = append(n.clients, client)
		stream, err := jetstream.New(client)
		if err != nil {
			return err
		}
		kv, err := stream.KeyValue(ctx, bucket)
		if err != nil {
			return err
		}
		n.buckets = append(n.buckets, kv)
	}
	return n.put(ctx, 0, 0, []byte("x"))
}

func (n *natsKV) put(ctx context.Context, worker, key int, value []byte) error {
	_, err := n.buckets[worker%len(n.buckets)].Put(ctx, natsKey(key), value)
	return err
}

func (n *natsKV) get(context.Context, int, int) error { return errUnsupported }

func (n *natsKV) staleGet(ctx context.Context, worker, key int) error {
	_, err := n.buckets[worker%len(n.buckets)].Get(ctx, natsKey(key))
	return err
}

func (n *natsKV) watch(ctx context.Context) (<-chan struct{}, error) {
	events := make(chan struct{}, 16)
	watcher, err := n.buckets[1%len(n.buckets)].Watch(ctx, "watched", jetstream.UpdatesOnly())
	if err != nil {
		return nil, err
	}
	go func() {
		<-ctx.Done()
		_ = watcher.Stop()
	}()
	go func() {
		for entry := range watcher.Updates() {
			if entry != nil {
				events <- struct{}{}
			}
		}
	}()
	return events, nil
}

func (n *natsKV) putWatched(ctx context.Context) error {
	_, err := n.buckets[0].Put(ctx, "watched", []byte("x"))
	return err
}

func (n *natsKV) probe(ctx context.Context) error {
	_, err := n.everywhere.Put(ctx, "probe", []byte("x"))
	return err
}

func (n *natsKV) leader(ctx context.Context) (int, error) {
	info, err := n.info(ctx)
	if err != nil {
		return 0, err
	}
	var number int
	if _, err := fmt.Sscanf(info.Leader, "s%d", &number); err != nil || number >= len(n.endpoints) {
		return 0, fmt.Errorf("no server leads (%q)", info.Leader)
	}
	return number, nil
}

func (n *natsKV) settled(ctx context.Context) error {
	info, err := n.info(ctx)
	if err != nil {
		return err
	}
	if info.Leader == "" || len(info.Replicas) != len(n.endpoints)-1 {
		return errors.New("no leader, or a replica is missing")
	}
	for _, replica := range info.Replicas {
		if !replica.Current || replica.Offline || replica.Lag > 0 {
			return fmt.Errorf("%s is not there yet", replica.Name)
		}
	}
	// The server itself may listen a little later than its replica counts as one.
	for _, endpoint := range n.endpoints {
		client, err := nats.Connect(endpoint, nats.NoReconnect(), nats.Timeout(time.Second))
		if err != nil {
			return err
		}
		client.Close()
	}
	return nil
}

func (n *natsKV) info(ctx context.Context) (*jetstream.ClusterInfo, error) {
	stream, err := n.stream.Stream(ctx, "KV_"+bucket)
	if err != nil {
		return nil, err
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return nil, err
	}
	if info.Cluster == nil {
		return nil, errors.New("the bucket is not of a cluster")
	}
	return info.Cluster, nil
}

func natsKey(key int) string { return fmt.Sprintf("bench.key-%d", key) }
