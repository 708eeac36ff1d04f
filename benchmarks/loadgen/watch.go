package main

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const stampSize = 19 // decimal nanoseconds since 1970

// stamped is a value that says when it was written, so that a watcher can tell how long it took to arrive.
func (l *load) stamped() string {
	if l.delivered == nil {
		return l.value
	}
	return strconv.FormatInt(time.Now().UnixNano(), 10) + l.value[min(stampSize, len(l.value)):]
}

// delivery collects events of all watchers.
type delivery struct {
	mu    sync.Mutex
	count int
	last  time.Time
	delay []time.Duration
}

type events struct {
	Watchers int     `json:"watchers"`
	Count    int     `json:"count"`
	PerSec   float64 `json:"events_per_second"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
}

// openWatches starts watchers of everything under the prefix, spread over the connections, and waits until all are created.
func openWatches(l *load, clients []*clientv3.Client) error {
	l.delivered = &delivery{}
	end := clientv3.GetPrefixRangeEnd(l.prefix)
	for i := range l.watchers {
		// A context of its own each makes a stream of its own each, as separate processes would have.
		ctx := clientv3.WithRequireLeader(context.WithValue(context.Background(), streamKey{}, i))
		channel := clients[i%len(clients)].Watch(ctx, l.prefix, clientv3.WithRange(end), clientv3.WithCreatedNotify())
		created := <-channel
		if err := created.Err(); err != nil {
			return err
		}
		go l.delivered.follow(channel)
	}
	return nil
}

type streamKey struct{}

func (d *delivery) follow(channel clientv3.WatchChan) {
	for answer := range channel {
		now := time.Now()
		d.mu.Lock()
		d.count += len(answer.Events)
		d.last = now
		for _, event := range answer.Events {
			if sent, err := strconv.ParseInt(string(event.Kv.Value[:min(stampSize, len(event.Kv.Value))]), 10, 64); err == nil {
				d.delay = append(d.delay, now.Sub(time.Unix(0, sent)))
			}
		}
		d.mu.Unlock()
	}
}

func (d *delivery) summary(counted time.Time, seconds float64) *events {
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.Sort(d.delay)
	all := max(d.last.Sub(counted).Seconds(), seconds)
	return &events{
		Count: d.count, PerSec: float64(d.count) / all,
		P50: quantile(d.delay, 0.50), P99: quantile(d.delay, 0.99),
	}
}
