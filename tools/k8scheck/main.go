// Command k8scheck reads Kubernetes manifests strictly: a field that the API does not have is an
// error, as is a kind that is not known here.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
)

func main() {
	failed := false
	for _, path := range os.Args[1:] {
		n, err := check(path)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
			failed = true
			continue
		}
		fmt.Printf("%s: %d objects\n", path, n)
	}
	if failed || len(os.Args) < 2 {
		os.Exit(1)
	}
}

// check decodes every document of a file and returns how many there were.
func check(path string) (int, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, autoscalingv2.AddToScheme, batchv1.AddToScheme, corev1.AddToScheme,
		networkingv1.AddToScheme, policyv1.AddToScheme, v1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return 0, err
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(data)))
	buffer := make([]byte, 1<<20)
	for n := 0; ; {
		size, err := documents.Read(buffer)
		if errors.Is(err, io.EOF) {
			if n == 0 {
				return 0, errors.New("no object in it")
			}
			return n, nil
		}
		if err != nil {
			return n, err
		}
		document := bytes.TrimSpace(buffer[:size])
		if len(document) == 0 {
			continue
		}
		if _, kind, err := decoder.Decode(document, nil, nil); err != nil {
			return n, fmt.Errorf("object %d (%v): %w", n+1, kind, err)
		}
		n++
	}
}
