package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

type etcd struct {
	endpoints   []string
	connections int
	// Each has one connection, to the leader.
	clients []*clientv3.Client
	// Knows all nodes.
	roaming *clientv3.Client
}

func openEtcd(endpoints []string, connections int) (subject, error) {
	roaming, err := dialEtcd(endpoints)
	return &etcd{endpoints: endpoints, connections: connections, roaming: roaming}, err
}

func dialEtcd(endpoints []string) (*clientv3.Client, error) {
	// Its warnings are of puts that the end of a probe cancels.
	return clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
}

func (e *etcd) aim(ctx context.Context) error {
	leader, err := e.leader(ctx)
	if err != nil {
		return err
	}
	for _, client := range e.clients {
		_ = client.Close()
	}
	e.clients = nil
	for len(e.clients) < e.connections {
		client, err := dialEtcd(e.endpoints[leader : leader+1])
		if err != nil {
			return err
		}
		e.clients = append(e.clients, client)
	}
	return e.put(ctx, 0, 0, []byte("x"))
}

func (e *etcd) put(ctx context.Context, worker, key int, value []byte) error {
	_, err := e.clients[worker%len(e.clients)].Put(ctx, keyOf(key), string(value))
	return err
}

func (e *etcd) get(ctx context.Context, worker, key int) error {
	found, err := e.clients[worker%len(e.clients)].Get(ctx, keyOf(key))
	return foundOne(found, err)
}

func (e *etcd) staleGet(ctx context.Context, worker, key int) error {
	found, err := e.clients[worker%len(e.clients)].Get(ctx, keyOf(key), clientv3.WithSerializable())
	return foundOne(found, err)
}

func foundOne(found *clientv3.GetResponse, err error) error {
	if err == nil && len(found.Kvs) != 1 {
		return errors.New("a key is missing")
	}
	return err
}

func (e *etcd) watch(ctx context.Context) (<-chan struct{}, error) {
	events := make(chan struct{}, 16)
	watch := e.clients[1%len(e.clients)].Watch(ctx, "/watched", clientv3.WithCreatedNotify())
	if created := <-watch; created.Err() != nil {
		return nil, created.Err()
	}
	go func() {
		for batch := range watch {
			for range batch.Events {
				events <- struct{}{}
			}
		}
	}()
	return events, nil
}

func (e *etcd) putWatched(ctx context.Context) error {
	_, err := e.clients[0].Put(ctx, "/watched", "x")
	return err
}

func (e *etcd) probe(ctx context.Context) error {
	_, err := e.roaming.Put(ctx, "/probe", "x")
	return err
}

func (e *etcd) leader(ctx context.Context) (int, error) {
	for number, endpoint := range e.endpoints {
		status, err := e.roaming.Status(ctx, endpoint)
		if err == nil && status.Leader != 0 && status.Leader == status.Header.MemberId {
			return number, nil
		}
	}
	return 0, errors.New("no node leads")
}

func (e *etcd) settled(ctx context.Context) error {
	var leader uint64
	for _, endpoint := range e.endpoints {
		status, err := e.roaming.Status(ctx, endpoint)
		if err != nil {
			return err
		}
		if status.Leader == 0 || (leader != 0 && status.Leader != leader) || status.RaftAppliedIndex != status.RaftIndex {
			return fmt.Errorf("%s is not there yet", endpoint)
		}
		leader = status.Leader
	}
	return nil
}

func keyOf(key int) string { return fmt.Sprintf("/bench/key-%d", key) }
