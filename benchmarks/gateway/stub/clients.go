package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

const dialsAtOnce = 16

var epoch = time.Now() // delays are counted on the monotonic clock, from here

// clients are the open watches and what arrived on them.
type clients struct {
	stop    context.CancelFunc
	ended   sync.WaitGroup
	mu      sync.Mutex
	changed sync.Cond
	delay   []time.Duration
	arrival time.Time
	broken  error
}

// openAll opens watches on connections of their own; returns when every one has its head.
func openAll(target, name string, roots *x509.CertPool, connections, streams int) (*clients, error) {
	ctx, stop := context.WithCancel(context.Background())
	c := &clients{stop: stop}
	c.changed.L = &c.mu
	slots := make(chan struct{}, dialsAtOnce)
	var all sync.WaitGroup
	for range connections {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if err := c.connect(ctx, target, name, roots, streams); err != nil {
				c.fail(err)
			}
		})
	}
	all.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c, c.broken
}

func (c *clients) connect(ctx context.Context, target, name string, roots *x509.CertPool, streams int) error {
	dialer := &net.Dialer{}
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS13},
		ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, target)
		},
	}
	for range streams { // one after the other: the first one dials, the others find its connection
		url := "https://" + name + "/api/v1/namespaces/default/pods?watch=1"
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := transport.RoundTrip(request)
		if err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK || response.ProtoMajor != 2 {
			return fmt.Errorf("a watch was answered with %s %s", response.Proto, response.Status)
		}
		c.ended.Go(func() { c.read(ctx, response.Body) })
	}
	return nil
}

// read counts what arrives until the watch ends; only its own end is right.
func (c *clients) read(ctx context.Context, body io.ReadCloser) {
	defer body.Close()
	lines := bufio.NewReaderSize(body, 1024)
	for {
		line, err := lines.ReadSlice('\n')
		now := time.Now()
		if err != nil {
			if ctx.Err() == nil {
				c.fail(fmt.Errorf("a watch ended: %w", err))
			}
			return
		}
		if string(line) == greeting {
			continue
		}
		due, err := timeOf(line)
		if err != nil {
			c.fail(err)
			return
		}
		c.mu.Lock()
		c.delay = append(c.delay, now.Sub(due))
		c.arrival = now
		c.changed.Signal()
		c.mu.Unlock()
	}
}

func timeOf(line []byte) (time.Time, error) {
	_, rest, found := bytes.Cut(line, []byte(`"at":`))
	number, _, whole := bytes.Cut(rest, []byte(","))
	if !found || !whole {
		return time.Time{}, errors.New("an event without its time")
	}
	since, err := strconv.ParseInt(string(number), 10, 64)
	return epoch.Add(time.Duration(since)), err
}

func (c *clients) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == nil {
		c.broken = err
	}
	c.changed.Signal()
}

func (c *clients) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delay = c.delay[:0]
}

// await returns how many events arrived, once it is all of them, the time is up or a watch broke.
func (c *clients) await(events int, limit time.Duration) int {
	timer := time.AfterFunc(limit, c.changed.Signal)
	defer timer.Stop()
	deadline := time.Now().Add(limit)
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.delay) < events && c.broken == nil && time.Now().Before(deadline) {
		c.changed.Wait()
	}
	return len(c.delay)
}

// delays are sorted.
func (c *clients) delays() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(slices.Values(c.delay))
}

func (c *clients) last() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.arrival
}

func (c *clients) close() {
	c.stop()
	c.ended.Wait()
}

func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := min(int(q*float64(len(sorted))), len(sorted)-1)
	return float64(sorted[at]) / float64(time.Millisecond)
}
