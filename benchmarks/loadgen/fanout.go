package main

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
)

// A thousand watchers that decode every event would load the machine more than the server that feeds them. So a watcher of
// fanout is a plain gRPC stream whose messages are only counted by their framing; one in timedEvery decodes and tells the
// delay.
const (
	timedEvery  = 50
	eventsField = 11 // of etcdserverpb.WatchResponse
)

// raw passes messages as the bytes they are.
type raw struct{}

func (raw) Marshal(message any) ([]byte, error) { return message.([]byte), nil }

func (raw) Unmarshal(data []byte, into any) error {
	buffer := into.(*[]byte)
	*buffer = append((*buffer)[:0], data...) // the library takes `data` back
	return nil
}

func (raw) Name() string { return "proto" }

// openFanOut starts the watchers, each on a stream of its own, and waits until all are created.
func openFanOut(l *load, clients []*clientv3.Client) error {
	if err := learn(l, clients); err != nil {
		return err
	}
	l.delivered = &delivery{watchers: l.watchers, each: l.watchers}
	if l.own {
		l.delivered.each = 1
		if l.watchers > 0 && l.watchers != l.keys {
			return fmt.Errorf("with -own there is one watcher for each of the %d keys", l.keys)
		}
	}
	if l.watchers == 0 {
		l.delivered.each = 0
	}
	ctx := metadata.AppendToOutgoingContext(context.Background(), "hasleader", "true")
	description := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	for i := range l.watchers {
		connection := clients[i%len(clients)].ActiveConnection()
		stream, err := connection.NewStream(ctx, description, "/etcdserverpb.Watch/Watch", grpc.ForceCodec(raw{}))
		if err != nil {
			return err
		}
		if err := stream.SendMsg(l.creation(i)); err != nil {
			return err
		}
		var created []byte
		if err := stream.RecvMsg(&created); err != nil {
			return err
		}
		go l.delivered.read(stream, i%timedEvery == 0)
	}
	return nil
}

// creation is the request of the i-th watcher.
func (l *load) creation(i int) []byte {
	create := &etcdserverpb.WatchCreateRequest{Key: []byte(l.prefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(l.prefix))}
	if l.own {
		create = &etcdserverpb.WatchCreateRequest{Key: []byte(l.key(int64(i)))}
	}
	create.PrevKv = true // as kube-apiserver wants it
	union := &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: create}
	request, err := (&etcdserverpb.WatchRequest{RequestUnion: union}).Marshal()
	if err != nil {
		panic(err) // a message of ours
	}
	return request
}

// read counts what arrives on a watch until it ends.
func (d *delivery) read(stream grpc.ClientStream, timed bool) {
	var message []byte
	for {
		if err := stream.RecvMsg(&message); err != nil {
			return // the end of the program; what is missing by then is reported
		}
		now := time.Now()
		events := countEvents(message)
		var delays []time.Duration
		if timed {
			delays = delaysOf(message, now)
		}
		d.mu.Lock()
		d.count += events
		d.last = now
		d.delay = append(d.delay, delays...)
		d.mu.Unlock()
	}
}

// countEvents is how many events a WatchResponse holds.
func countEvents(message []byte) int {
	events := 0
	for len(message) > 0 {
		field, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			panic("not a protobuf message")
		}
		length := protowire.ConsumeFieldValue(field, kind, message[size:])
		if length < 0 {
			panic("not a protobuf message")
		}
		if field == eventsField {
			events++
		}
		message = message[size+length:]
	}
	return events
}

func delaysOf(message []byte, now time.Time) []time.Duration {
	var answer etcdserverpb.WatchResponse
	if err := answer.Unmarshal(message); err != nil {
		panic(err)
	}
	delays := make([]time.Duration, 0, len(answer.Events))
	for _, event := range answer.Events {
		delays = appendDelay(delays, event.Kv.Value, now)
	}
	return delays
}
