package main

import (
	"fmt"
	"strconv"
	"sync"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

const problemsKept = 20

// witness checks what one informer hands out.
type witness struct {
	store  cache.Store
	synced cache.InformerSynced
	number func(any) (int, error)

	mu       sync.Mutex
	last     map[string]int // object name → the number last seen, deleted objects included
	events   int
	found    int
	problems []string
}

// report is what the test reads. Versions are resourceVersions by object name.
type report struct {
	Lists    int               `json:"lists"`
	Watches  int               `json:"watches"`
	Events   int               `json:"events"`
	Found    int               `json:"found"`
	Problems []string          `json:"problems"`
	Versions map[string]string `json:"versions"`
}

func newWitness(informer cache.SharedIndexInformer, number func(any) (int, error)) *witness {
	w := &witness{store: informer.GetStore(), number: number, last: map[string]int{}, problems: []string{}}
	handler := cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(object any, initial bool) {
			w.seen("added", object, initial)
		},
		UpdateFunc: func(before, after any) {
			w.updated(before.(meta.Object), after.(meta.Object))
			w.seen("updated", after, false)
		},
		DeleteFunc: func(object any) {
			if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
				w.problem("%s was gone without a deletion that anybody saw", unknown.Key)
			}
		},
	}
	registration, err := informer.AddEventHandler(handler)
	if err != nil {
		panic(err) // only an informer that was stopped refuses
	}
	w.synced = registration.HasSynced
	return w
}

// seen checks that the object's number is the one after the last, or the same (a writer's repeated request may write twice).
func (w *witness) seen(kind string, object any, initial bool) {
	name := object.(meta.Object).GetName()
	number, err := w.number(object)
	if err != nil {
		w.problem("%s %s: %v", kind, name, err)
		return
	}
	w.mu.Lock()
	before, known := w.last[name]
	w.last[name] = number
	w.events++
	w.mu.Unlock()
	if known && number != before && number != before+1 {
		w.problem("%s %s: number %d after %d", kind, name, number, before)
	}
	if known && initial {
		w.problem("%s %s: twice in the initial list", kind, name)
	}
}

func (w *witness) updated(before, after meta.Object) {
	if older, newer := version(before), version(after); newer <= older {
		w.problem("updated %s: version %d after %d", after.GetName(), newer, older)
	}
}

func version(object meta.Object) int64 {
	number, err := strconv.ParseInt(object.GetResourceVersion(), 10, 64)
	if err != nil {
		panic(err)
	}
	return number
}

func (w *witness) problem(format string, words ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.found++
	if len(w.problems) < problemsKept {
		w.problems = append(w.problems, fmt.Sprintf(format, words...))
	}
}

func (w *witness) report(lists, watches int) report {
	versions := map[string]string{}
	for _, one := range w.store.List() {
		object := one.(meta.Object)
		versions[object.GetName()] = object.GetResourceVersion()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return report{
		Lists: lists, Watches: watches, Events: w.events, Found: w.found,
		Problems: append([]string{}, w.problems...), Versions: versions,
	}
}
