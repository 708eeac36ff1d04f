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

const deliverySeconds = 30 // for the last events to arrive after the last write

// delivery collects events of all watchers.
type delivery struct {
	watchers int
	each     int // events that one write makes
	expected int

	mu    sync.Mutex
	count int
	last  time.Time
	delay []time.Duration
}

type events struct {
	Watchers int     `json:"watchers"`
	Count    int     `json:"count"`
	Missing  int     `json:"missing"`
	PerSec   float64 `json:"events_per_second"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
}

// openWatches starts watchers of everything under the prefix, spread over the connections, and waits until all are created.
func openWatches(l *load, clients []*clientv3.Client) error {
	l.delivered = &delivery{watchers: l.watchers, each: l.watchers}
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
			d.delay = appendDelay(d.delay, event.Kv.Value, now)
		}
		d.mu.Unlock()
	}
}

// appendDelay appends how long a stamped value took to arrive.
func appendDelay(delays []time.Duration, value []byte, now time.Time) []time.Duration {
	sent, err := strconv.ParseInt(string(value[:min(stampSize, len(value))]), 10, 64)
	if err != nil {
		return delays
	}
	return append(delays, now.Sub(time.Unix(0, sent)))
}

// await returns when every event of every write has arrived, or after a while.
func (d *delivery) await(workers []*worker) {
	for _, w := range workers {
		d.expected += w.done * d.each
	}
	end := time.Now().Add(deliverySeconds * time.Second)
	for time.Now().Before(end) {
		d.mu.Lock()
		arrived := d.count >= d.expected
		d.mu.Unlock()
		if arrived {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (d *delivery) summary(begin time.Time, seconds float64) *events {
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.Sort(d.delay)
	all := max(d.last.Sub(begin).Seconds(), seconds)
	return &events{
		Watchers: d.watchers, Count: d.count, Missing: d.expected - d.count, PerSec: float64(d.count) / all,
		P50: quantile(d.delay, 0.50), P99: quantile(d.delay, 0.99),
	}
}
