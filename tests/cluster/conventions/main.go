// Conventions answers with kube-apiserver's own code what wharf decides by itself: what a request line means, whom
// identity headers name, what a metav1.Status in protobuf says.
//
// Each line on stdin is one JSON document {"kind": …}, each line on stdout the answer; the end of stdin ends the program.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/endpoints/request"
)

type question struct {
	Kind string `json:"kind"`
	Data []byte `json:"data"` // a whole HTTP/1.1 request, or an encoded object
}

type answer struct {
	Error       string               `json:"error,omitempty"`
	RequestInfo *request.RequestInfo `json:"requestInfo,omitempty"`
	User        any                  `json:"user,omitempty"`
	Status      *metav1.Status       `json:"status,omitempty"`
}

var resolver = &request.RequestInfoFactory{
	APIPrefixes:          sets.NewString("api", "apis"),
	GrouplessAPIPrefixes: sets.NewString("api"),
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<24)
	out := bufio.NewWriter(os.Stdout)
	for in.Scan() {
		var asked question
		var told answer
		err := json.Unmarshal(in.Bytes(), &asked)
		if err == nil {
			err = tell(asked, &told)
		}
		if err != nil {
			told = answer{Error: err.Error()}
		}
		if err := json.NewEncoder(out).Encode(told); err != nil {
			fmt.Fprintln(os.Stderr, "conventions:", err)
			os.Exit(1)
		}
		out.Flush()
	}
}

func tell(asked question, told *answer) error {
	if asked.Kind == "status" {
		return tellStatus(asked.Data, told)
	}
	parsed, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(asked.Data)))
	if err != nil {
		return err
	}
	if asked.Kind == "request" {
		told.RequestInfo, err = resolver.NewRequestInfo(parsed)
		return err
	}
	reader, err := headerrequest.New(
		[]string{"X-Remote-User"}, []string{"X-Remote-Uid"}, []string{"X-Remote-Group"}, []string{"X-Remote-Extra-"})
	if err != nil {
		return err
	}
	found, ok, err := reader.AuthenticateRequest(parsed)
	if err == nil && ok {
		told.User = map[string]any{
			"name": found.User.GetName(), "uid": found.User.GetUID(),
			"groups": found.User.GetGroups(), "extra": found.User.GetExtra(),
		}
	}
	return err
}

func tellStatus(data []byte, told *answer) error {
	scheme := runtime.NewScheme()
	scheme.AddUnversionedTypes(schema.GroupVersion{Version: "v1"}, &metav1.Status{})
	decoded, _, err := protobuf.NewSerializer(scheme, scheme).Decode(data, nil, nil)
	if err == nil {
		told.Status = decoded.(*metav1.Status)
	}
	return err
}
