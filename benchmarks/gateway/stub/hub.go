package main

import (
	"crypto/tls"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	greeting = `{"type":"BOOKMARK"}` + "\n"
	backlog  = 1024 // events a watch may lag behind before emit waits for it
	padding  = 400  // bytes of an event beside its time, so that it has the size of a small object
)

// hub is the upstream: it knows the watches that are open.
type hub struct {
	review  string
	mu      sync.Mutex
	changed sync.Cond
	watches map[chan []byte]struct{}
}

func newHub(review string) *hub {
	h := &hub{review: review, watches: map[chan []byte]struct{}{}}
	h.changed.L = &h.mu
	return h
}

func (h *hub) serve(listen string, pair tls.Certificate, streams int) (string, error) {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return "", err
	}
	server := &http.Server{
		Handler:   h,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13},
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: streams},
	}
	go server.ServeTLS(listener, "", "") //nolint:errcheck // it ends with the process
	return listener.Addr().String(), nil
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodPost {
		w.WriteHeader(http.StatusCreated)
		w.Write([]byte(h.review)) //nolint:errcheck // the peer's loss
		return
	}
	if !r.URL.Query().Has("watch") { // a health check
		w.Write([]byte("ok")) //nolint:errcheck // the peer's loss
		return
	}
	events := make(chan []byte, backlog)
	flush := http.NewResponseController(w).Flush
	h.set(events, true)
	defer h.set(events, false)
	// The first bytes come at once: nginx keeps a head over HTTP/2 back until there is something of the body.
	if _, err := w.Write([]byte(greeting)); err != nil || flush() != nil {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case event := <-events:
			if _, err := w.Write(event); err != nil || flush() != nil {
				return
			}
		}
	}
}

func (h *hub) set(events chan []byte, open bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if open {
		h.watches[events] = struct{}{}
	} else {
		delete(h.watches, events)
	}
	h.changed.Broadcast()
}

// emit sends events at a steady rate to every watch; how many in all, and when the first was due.
func (h *hub) emit(perSecond float64, length time.Duration) (int, time.Time) {
	began := time.Now()
	sent := 0
	for i := range int(perSecond * length.Seconds()) {
		due := began.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))
		time.Sleep(time.Until(due))
		event := []byte(`{"type":"MODIFIED","at":` + strconv.FormatInt(int64(due.Sub(epoch)), 10) +
			`,"object":"` + strings.Repeat("x", padding) + "\"}\n")
		h.mu.Lock()
		to := make([]chan []byte, 0, len(h.watches))
		for watch := range h.watches {
			to = append(to, watch)
		}
		h.mu.Unlock()
		for _, watch := range to {
			watch <- event
			sent++
		}
	}
	return sent, began
}

// awaitEmpty waits until no watch is open; how many are left when it gave up.
func (h *hub) awaitEmpty(limit time.Duration) int {
	timer := time.AfterFunc(limit, h.changed.Broadcast)
	defer timer.Stop()
	deadline := time.Now().Add(limit)
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.watches) > 0 && time.Now().Before(deadline) {
		h.changed.Wait()
	}
	return len(h.watches)
}
