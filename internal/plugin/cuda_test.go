package plugin_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/internal/plugin"
)

// wheelFiles are the files that matter as the pinned wheels hold them: their lists on the package
// index, read on 2026-11-22.
var wheelFiles = map[string][]string{
	plugin.CUDA12: {
		"cublas/lib/libcublas.so.12", "cublas/lib/libcublasLt.so.12", "cublas/lib/libnvblas.so.12", "cuda_cupti/lib/libcupti.so.12",
		"cuda_nvcc/bin/ptxas", "cuda_nvcc/nvvm/lib64/libnvvm.so", "cuda_nvcc/nvvm/libdevice/libdevice.10.bc",
		"cuda_nvrtc/lib/libnvrtc.so.12", "cuda_runtime/lib/libcudart.so.12", "cudnn/lib/libcudnn.so.9", "cufft/lib/libcufft.so.11",
		"cusolver/lib/libcusolver.so.11", "cusparse/lib/libcusparse.so.12", "nccl/lib/libnccl.so.2", "nvjitlink/lib/libnvJitLink.so.12",
		"nvshmem/lib/libnvshmem_host.so.3",
	},
	plugin.CUDA13: {
		"cu13/lib/libcublas.so.13", "cu13/lib/libcublasLt.so.13", "cu13/lib/libcupti.so.13", "cu13/bin/ptxas", "cu13/lib/libnvrtc.so.13",
		"cu13/lib/libcudart.so.13", "cudnn/lib/libcudnn.so.9", "cu13/lib/libcufft.so.12", "cu13/lib/libcusolver.so.12",
		"cu13/lib/libcusparse.so.12", "nccl/lib/libnccl.so.2", "cu13/lib/libnvJitLink.so.13", "nvshmem/lib/libnvshmem_host.so.3",
		"cu13/lib/libnvvm.so.4", "cu13/nvvm/libdevice/libdevice.10.bc",
	},
}

// machine is a system with that driver, and a plugin with those libraries.
func machine(t *testing.T, kind, driver string, files []string) (root string, p plugin.Plugin) {
	t.Helper()
	root = t.TempDir()
	put := func(path, text string) {
		path = filepath.Join(root, filepath.FromSlash(path))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if driver != "" {
		put("proc/driver/nvidia/version", driver)
	}
	for _, name := range files {
		put("store/nvidia/"+name, "")
	}
	put("store/lib/pjrt_c_api_cuda_plugin.so", "")
	return root, plugin.Plugin{Kind: kind, Version: "0.11.2", Path: filepath.Join(root, "store", "lib", "pjrt_c_api_cuda_plugin.so")}
}

// What drivers write into /proc/driver/nvidia/version.
const (
	closed535 = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version:  gcc version 12.2.0\n"
	open580   = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)  Sun Jul 27 06:54:38 UTC 2025\n"
	closed470 = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.256.02  Thu May  2 14:37:44 UTC 2024\n"
)

func TestDriver(t *testing.T) {
	tests := map[string]struct {
		kind, driver, want string // want: part of the error; empty: none
	}{
		"13 on 580":      {plugin.CUDA13, open580, ""},
		"12 on 580":      {plugin.CUDA12, open580, ""},
		"12 on 535":      {plugin.CUDA12, closed535, ""},
		"13 on 535":      {plugin.CUDA13, closed535, "NVIDIA driver 535.104.05 is too old for cuda13, which needs version 580 or newer"},
		"12 on 470":      {plugin.CUDA12, closed470, "NVIDIA driver 470.256.02 is too old for cuda12, which needs version 525 or newer"},
		"none":           {plugin.CUDA13, "", "no NVIDIA driver is loaded; cuda13 needs version 580 or newer"},
		"not understood": {plugin.CUDA13, "NVRM\n", "no NVIDIA driver is loaded"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root, p := machine(t, tt.kind, tt.driver, wheelFiles[tt.kind])
			err := p.Check(root)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if _, ok := errors.AsType[*plugin.DriverError](err); !ok || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// Of the libraries any one may be missing, and its name is told.
func TestLibraryIsMissing(t *testing.T) {
	optional := []string{"libnvblas.so.12", "libnvvm.so", "libnvvm.so.4"}
	for kind, files := range wheelFiles {
		for i, gone := range files {
			root, p := machine(t, kind, open580, slices.Delete(slices.Clone(files), i, i+1))
			err := p.Check(root)
			if name := filepath.Base(gone); slices.Contains(optional, name) {
				if err != nil {
					t.Errorf("%s without %s: %v", kind, name, err)
				}
			} else if e, ok := errors.AsType[*plugin.LibrariesError](err); !ok || !slices.Equal(e.Missing, []string{name}) {
				t.Errorf("%s without %s: %v", kind, name, err)
			}
		}
	}
	root, p := machine(t, plugin.CUDA13, open580, nil)
	if e, ok := errors.AsType[*plugin.LibrariesError](p.Check(root)); !ok || len(e.Missing) != 14 {
		t.Errorf("no libraries at all: %v", p.Check(root))
	}
	p.Version = plugin.Custom
	if err := p.Check(root); err != nil {
		t.Errorf("a plugin by path, with the system's libraries: %v", err)
	}
	if err := (plugin.Plugin{Kind: plugin.CPU}).Check(root); err != nil {
		t.Errorf("a plugin that needs none of it: %v", err)
	}
}
