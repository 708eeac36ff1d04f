package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

var errConflict = errors.New("the transaction's compare did not hold")

// errDone ends a worker: there is nothing left to do.
var errDone = errors.New("done")

const pageSize = 500

// load is one run: its options and what the workers share.
type load struct {
	options
	operation
	next      atomic.Int64
	paced     atomic.Int64
	value     string
	revisions map[string]int64 // of the keys as they were before the load; read only while it runs
	delivered *delivery
}

// due is when the next operation begins: at once in a closed loop, at its turn when there is a rate. A turn that is late
// still counts from when it was due, so that a stall of the server shows in every operation that it held up.
func (l *load) due(begin time.Time) time.Time {
	if l.rate == 0 {
		return time.Now()
	}
	turn := begin.Add(time.Duration(float64(l.paced.Add(1)-1) / l.rate * float64(time.Second)))
	time.Sleep(time.Until(turn))
	return turn
}

// operation is one kind of request, as a control plane sends it.
type operation struct {
	prepare func(*load, []*clientv3.Client) error
	do      func(context.Context, *load, *worker) error
}

var operations map[string]operation

func init() { // the table mentions functions that mention the table
	operations = map[string]operation{
		"create": {do: create},
		"fill":   {do: fill},
		"get":    {do: get},
		"update": {do: update},
		"delete": {prepare: learn, do: remove},
		"list":   {do: list},
		"watch":  {prepare: openWatches, do: update},
		"fanout": {prepare: openFanOut, do: renew},
	}
}

func names() []string {
	all := make([]string, 0, len(operations))
	for name := range operations {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func newLoad(o options, op operation) *load {
	return &load{options: o, operation: op, value: strings.Repeat("v", o.valueSize)}
}

// key is the n-th key: fixed length, spread by a multiplicative hash so that neighbours in time are no neighbours in order.
func (l *load) key(n int64) string {
	name := fmt.Sprintf("%s%016x", l.prefix, uint64(n)*0x9E3779B97F4A7C15)
	if pad := l.keySize - len(name); pad > 0 {
		name += strings.Repeat("k", pad)
	}
	return name
}

func (l *load) randomKey() string { return l.key(rand.Int64N(int64(l.keys))) }

// create is kube-apiserver's create: the key must not exist. Keys are never used twice, on this server or in this run.
func create(ctx context.Context, l *load, w *worker) error {
	key := l.key(time.Now().UnixNano()<<9 | int64(w.number)&511)
	_, err := put(ctx, w, key, 0, l.value)
	return err
}

func fill(ctx context.Context, l *load, w *worker) error {
	n := l.next.Add(1) - 1
	if n >= int64(l.keys) {
		return errDone
	}
	_, err := put(ctx, w, l.key(n), 0, l.value)
	return err
}

// put is kube-apiserver's create (of a key without a revision) or update, as it sends them; it returns the new revision.
func put(ctx context.Context, w *worker, key string, revision int64, value string) (int64, error) {
	txn := w.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
		Then(clientv3.OpPut(key, value))
	if revision != 0 {
		txn = txn.Else(clientv3.OpGet(key))
	}
	answer, err := txn.Commit()
	if err != nil {
		return 0, err
	}
	if !answer.Succeeded {
		return 0, errConflict
	}
	return answer.Header.Revision, nil
}

func get(ctx context.Context, l *load, w *worker) error {
	answer, err := w.client.Get(ctx, l.randomKey())
	if err == nil && len(answer.Kvs) != 1 {
		return fmt.Errorf("%d keys instead of one; was the store filled?", len(answer.Kvs))
	}
	return err
}

// update is a read and a conditional write of a key no other worker writes: two requests, counted as one operation.
func update(ctx context.Context, l *load, w *worker) error {
	share := int64(l.keys / l.clients)
	key := l.key(int64(w.number)*share + rand.Int64N(share))
	answer, err := w.client.Get(ctx, key)
	if err != nil {
		return err
	}
	if len(answer.Kvs) != 1 {
		return fmt.Errorf("%d keys instead of one; was the store filled?", len(answer.Kvs))
	}
	_, err = put(ctx, w, key, answer.Kvs[0].ModRevision, l.stamped())
	return err
}

// learn reads the revisions of all keys, in pages, so that a write can be conditional without a read before it.
func learn(l *load, clients []*clientv3.Client) error {
	l.revisions = make(map[string]int64, l.keys)
	start, end := l.prefix, clientv3.GetPrefixRangeEnd(l.prefix)
	for {
		answer, err := clients[0].Get(context.Background(), start, clientv3.WithRange(end), clientv3.WithLimit(pageSize))
		if err != nil {
			return err
		}
		for _, kv := range answer.Kvs {
			l.revisions[string(kv.Key)] = kv.ModRevision
			start = string(kv.Key) + "\x00"
		}
		if !answer.More {
			return nil
		}
	}
}

// remove is kube-apiserver's delete, of every key once: the key must be as it was last seen, else it is read.
func remove(ctx context.Context, l *load, w *worker) error {
	n := l.next.Add(1) - 1
	if n >= int64(l.keys) {
		return errDone
	}
	key := l.key(n)
	answer, err := w.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", l.revisions[key])).
		Then(clientv3.OpDelete(key)).
		Else(clientv3.OpGet(key)).
		Commit()
	if err == nil && !answer.Succeeded {
		return errConflict
	}
	return err
}

// renew writes a key of the worker's own share again, knowing its revision from the write before.
func renew(ctx context.Context, l *load, w *worker) error {
	share := int64(l.keys / l.clients)
	key := l.key(int64(w.number)*share + int64(w.all)%share)
	before, mine := w.revisions[key]
	if !mine {
		before = l.revisions[key]
	}
	after, err := put(ctx, w, key, before, l.stamped())
	if err == nil {
		w.revisions[key] = after
	}
	return err
}

// list is one page of a paginated list, from a random key on.
func list(ctx context.Context, l *load, w *worker) error {
	end := clientv3.GetPrefixRangeEnd(l.prefix)
	_, err := w.client.Get(ctx, l.randomKey(), clientv3.WithRange(end), clientv3.WithLimit(pageSize))
	return err
}
