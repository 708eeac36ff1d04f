package main

import (
	"net/http"
	"path"
	"sync"
)

// requests counts what the library asks for, by resource, in the transport where nothing can hide.
type requests struct {
	mu      sync.Mutex
	lists   map[string]int
	watches map[string]int
}

func newRequests() *requests {
	return &requests{lists: map[string]int{}, watches: map[string]int{}}
}

func (r *requests) of(resource string) (lists, watches int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lists[resource], r.watches[resource]
}

func (r *requests) note(request *http.Request) {
	resource, query := path.Base(request.URL.Path), request.URL.Query()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case query.Get("watch") != "true" && query.Get("watch") != "1", query.Get("sendInitialEvents") == "true":
		r.lists[resource]++
	default:
		r.watches[resource]++
	}
}

func (r *requests) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		r.note(request)
		return next.RoundTrip(request)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }
