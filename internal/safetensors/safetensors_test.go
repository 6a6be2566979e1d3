package safetensors_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/t5ctl/t5ctl/internal/safetensors"
	"pgregory.net/rapid"
)

// compose makes a file from a header and the bytes of the tensors.
func compose(header, body string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header+body...)
}

// The fixture is written by the Python library (testdata/make_fixtures.py).
func TestReadReference(t *testing.T) {
	file, err := safetensors.Open("testdata/reference.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // a test
	ramp := []int64{-3, -2, -1, 0, 1, 2}
	ints := map[string][]int64{
		"i64": ramp, "i32": ramp, "i16": ramp, "i8": ramp,
		"u8": {0, 1, 2, 3, 4, 5}, "u16": {0, 1, 2, 3, 4, 5}, "u32": {0, 1, 2, 3, 4, 5}, "bool": {1, 0, 1, 0, 1, 0},
	}
	for name, want := range ints {
		tensor, _ := file.Tensor(name)
		if got, err := tensor.Int64s(); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s = %v, %v; want %v", name, got, err, want)
		}
	}
	floats := map[string][]float32{
		"decoder.weight": {-1, -0.5, 0, 0.5, 1, 1.5},
		"encoder.weight": {-2.5, -1.5, -0.5, 0.5, 1.5, 2.5},
		"half":           {0, 0.0999755859375, 0.199951171875, 0.300048828125, 0.39990234375, 0.5},
		"brain":          {0, 0.10009765625, 0.2001953125, 0.30078125, 0.400390625, 0.5},
		"scalar":         {7.25},
		"empty":          {},
	}
	for name, want := range floats {
		tensor, _ := file.Tensor(name)
		if got, err := tensor.Float32s(); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s = %v, %v; want %v", name, got, err, want)
		}
	}
	if scalar, _ := file.Tensor("scalar"); len(scalar.Shape) != 0 || scalar.Len() != 1 {
		t.Errorf("scalar has shape %v", scalar.Shape)
	}
	if got := file.Metadata(); len(got) != 1 || got["format"] != "pt" {
		t.Errorf("metadata %v", got)
	}
	if _, ok := file.Tensor("none"); ok {
		t.Error("a tensor that is not there")
	}
}

// Writing what the Python library wrote gives the same bytes.
func TestWriteReference(t *testing.T) {
	want, err := os.ReadFile("testdata/reference.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	file, err := safetensors.Parse("reference", want)
	if err != nil {
		t.Fatal(err)
	}
	var tensors []safetensors.Tensor
	for _, name := range file.Names() {
		tensor, _ := file.Tensor(name)
		tensors = append([]safetensors.Tensor{tensor}, tensors...) // the writer finds the order
	}
	path := filepath.Join(t.TempDir(), "out.safetensors")
	if err := safetensors.Write(path, nil, tensors); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !slices.Equal(got, want) {
		t.Errorf("the file differs from the reference: %v", err)
	}
}

// The bit patterns are those of ml_dtypes and NumPy (testdata/make_fixtures.py).
func TestRounding(t *testing.T) {
	data, err := os.ReadFile("testdata/rounding.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows [][3]uint32
	if err := json.Unmarshal(data, &rows); err != nil {
		t.Fatal(err)
	}
	for column, dtype := range []safetensors.DType{safetensors.BF16, safetensors.F16} {
		differ := 0
		for _, row := range rows {
			value := math.Float32frombits(row[0])
			tensor, err := safetensors.FromFloat32s("x", dtype, nil, []float32{value})
			if err != nil {
				t.Fatal(err)
			}
			got, want := binary.LittleEndian.Uint16(tensor.Data), uint16(row[column+1])
			if value != value { // which NaN is the library's own affair
				back, _ := tensor.Float32s()
				if back[0] == back[0] {
					t.Errorf("%s of the NaN %#x is %#x", dtype, row[0], got)
				}
				continue
			}
			if got != want {
				differ++
				t.Errorf("%s of %g (%#x) = %#x, want %#x", dtype, value, row[0], got, want)
			}
		}
		t.Logf("%s: %d values, %d differ", dtype, len(rows), differ)
	}
}

// Every 16-bit pattern survives widening and narrowing.
func TestWideningIsExact(t *testing.T) {
	for _, dtype := range []safetensors.DType{safetensors.BF16, safetensors.F16} {
		data := make([]byte, 0, 1<<17)
		for i := range 1 << 16 {
			data = binary.LittleEndian.AppendUint16(data, uint16(i))
		}
		all := safetensors.Tensor{Name: "all", DType: dtype, Shape: []int{1 << 16}, Data: data}
		wide, err := all.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		back, err := safetensors.FromFloat32s("all", dtype, all.Shape, wide)
		if err != nil {
			t.Fatal(err)
		}
		for i := range wide {
			if got := binary.LittleEndian.Uint16(back.Data[2*i:]); wide[i] == wide[i] && int(got) != i {
				t.Fatalf("%s %#x became %g and then %#x", dtype, i, wide[i], got)
			}
		}
	}
}

func TestCorrupt(t *testing.T) {
	const one = `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`
	tests := map[string]struct {
		data []byte
		want string // part of the reason
	}{
		"empty file":           {nil, "0 bytes"},
		"half a length":        {[]byte{1, 2, 3}, "3 bytes"},
		"header cut":           {compose(one, "")[:20], "cut short"},
		"header too long":      {binary.LittleEndian.AppendUint64(nil, 1<<40), "more than the 100000000 allowed"},
		"length is negative":   {binary.LittleEndian.AppendUint64(nil, math.MaxUint64), "more than the 100000000 allowed"},
		"no header":            {compose("", ""), "does not start with {"},
		"not an object":        {compose("[]", ""), "does not start with {"},
		"not JSON":             {compose("{]", ""), "not JSON"},
		"not UTF-8":            {compose("{\"\xff\":1}", ""), "not UTF-8"},
		"two objects":          {compose("{}{}", ""), "goes on"},
		"open object":          {compose(`{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}`, ""), "not JSON"},
		"data cut":             {compose(one, "1234567"), `"a" ends at byte 8 of 7: the file is cut short`},
		"data too long":        {compose(one, "123456789"), "1 bytes after the last tensor"},
		"unknown dtype":        {compose(`{"a":{"dtype":"F7","shape":[2],"data_offsets":[0,8]}}`, "12345678"), `dtype "F7"`},
		"wrong dtype":          {compose(`{"a":{"dtype":"F64","shape":[2],"data_offsets":[0,8]}}`, "12345678"), "F64 [2] takes 16"},
		"no dtype":             {compose(`{"a":{"shape":[2],"data_offsets":[0,8]}}`, "12345678"), `dtype ""`},
		"no shape":             {compose(`{"a":{"dtype":"F32","data_offsets":[0,4]}}`, "1234"), "no shape"},
		"negative shape":       {compose(`{"a":{"dtype":"F32","shape":[-1,-2],"data_offsets":[0,8]}}`, "12345678"), "dimension of -1"},
		"shape overflows":      {compose(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, ""), "more elements"},
		"one offset":           {compose(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[0]}}`, ""), "1 data offsets"},
		"offsets reversed":     {compose(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}`, "1"), "data offsets [1 0]"},
		"negative offset":      {compose(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}}`, "1"), "data offsets [-1 0]"},
		"fractional offset":    {compose(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1.5]}}`, "1"), `tensor "a"`},
		"entry is a number":    {compose(`{"a":7}`, ""), `tensor "a"`},
		"metadata not strings": {compose(`{"__metadata__":{"a":1}}`, ""), "map of strings"},
		"name twice": {compose(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},`+
			`"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, "12"), `"a" twice`},
		"overlap": {compose(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},`+
			`"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, "123"), `"a" and "b" overlap`},
		"gap": {compose(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},`+
			`"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}`, "123"), `1 bytes before tensor "b"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "model.safetensors")
			if err := os.WriteFile(path, tt.data, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := safetensors.Open(path)
			corrupt, ok := errors.AsType[*safetensors.CorruptError](err)
			if !ok || corrupt.Path != path || !strings.Contains(corrupt.Reason, tt.want) {
				t.Errorf("got %v, want a CorruptError with %q", err, tt.want)
			}
		})
	}
}

func TestOpenWrongPlace(t *testing.T) {
	dir := t.TempDir()
	if _, err := safetensors.Open(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, ok := errors.AsType[*safetensors.CorruptError](second(safetensors.Open(dir))); !ok {
		t.Error("a folder was opened as a file")
	}
	if _, err := safetensors.OpenFolder(dir, "model"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// tensors makes n tensors of 40 bytes.
func tensors(t *testing.T, n int) []safetensors.Tensor {
	t.Helper()
	var out []safetensors.Tensor
	for i := range n {
		values := make([]float32, 10)
		values[0] = float32(i)
		tensor, err := safetensors.FromFloat32s(fmt.Sprintf("block.%d.weight", i), safetensors.F32, []int{2, 5}, values)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, tensor)
	}
	return out
}

func TestFolder(t *testing.T) {
	tests := map[string]struct {
		shardBytes int64
		files      int
	}{
		"one file":             {0, 1},
		"just fits":            {200, 1},
		"two a shard":          {80, 4}, // 3 shards and the index
		"smaller than tensors": {1, 6},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := safetensors.WriteFolder(dir, "model", map[string]string{"k": "v"}, tensors(t, 5), tt.shardBytes); err != nil {
				t.Fatal(err)
			}
			if entries, _ := os.ReadDir(dir); len(entries) != tt.files {
				t.Errorf("%d files, want %d", len(entries), tt.files)
			}
			file, err := safetensors.OpenFolder(dir, "model")
			if err != nil {
				t.Fatal(err)
			}
			if got := file.Metadata(); got["k"] != "v" || got["format"] != "pt" || len(got) != 2 {
				t.Errorf("metadata %v", got)
			}
			for i, name := range file.Names() {
				tensor, _ := file.Tensor(name)
				values, err := tensor.Float32s()
				if err != nil || values[0] != float32(i) || !slices.Equal(tensor.Shape, []int{2, 5}) {
					t.Errorf("%s: %v, %v", name, values, err)
				}
			}
			if err := file.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBrokenFolder(t *testing.T) {
	const index = "model.safetensors.index.json"
	tests := map[string]struct {
		spoil func(dir string) error
		want  string
	}{
		"shard missing": {func(dir string) error {
			return os.Remove(filepath.Join(dir, "model-00002-of-00003.safetensors"))
		}, "shard model-00002-of-00003.safetensors is missing"},
		"shard cut": {func(dir string) error {
			return os.Truncate(filepath.Join(dir, "model-00002-of-00003.safetensors"), 100)
		}, "cut short"},
		"index not JSON":  {func(dir string) error { return os.WriteFile(filepath.Join(dir, index), []byte("{"), 0o600) }, "not the JSON"},
		"index is empty":  {func(dir string) error { return os.WriteFile(filepath.Join(dir, index), []byte("{}"), 0o600) }, "weight_map is empty"},
		"outside":         {rewrite(index, "model-00001-of-00003", "../model-00001-of-00003"), "outside its folder"},
		"not in the file": {rewrite(index, "block.0.weight", "block.9.weight"), `"block.0.weight"`},
		"left out":        {rewrite(index, `"block.4.weight": "model-00003-of-00003.safetensors"`, `"x": "model-00001-of-00003.safetensors"`), `"x"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := safetensors.WriteFolder(dir, "model", nil, tensors(t, 5), 80); err != nil {
				t.Fatal(err)
			}
			if err := tt.spoil(dir); err != nil {
				t.Fatal(err)
			}
			_, err := safetensors.OpenFolder(dir, "model")
			corrupt, ok := errors.AsType[*safetensors.CorruptError](err)
			if !ok || !strings.Contains(corrupt.Error(), tt.want) {
				t.Errorf("got %v, want a CorruptError with %q", err, tt.want)
			}
		})
	}
}

// rewrite replaces text in a file of the folder.
func rewrite(name, from, to string) func(dir string) error {
	return func(dir string) error {
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, []byte(strings.ReplaceAll(string(data), from, to)), 0o600)
	}
}

func TestWriteRefuses(t *testing.T) {
	good := tensors(t, 1)[0]
	tests := map[string][]safetensors.Tensor{
		"two of a name":   {good, good},
		"too few bytes":   {{Name: "a", DType: safetensors.F32, Shape: []int{2}, Data: make([]byte, 7)}},
		"too many bytes":  {{Name: "a", DType: safetensors.F32, Shape: []int{2}, Data: make([]byte, 9)}},
		"unknown dtype":   {{Name: "a", DType: "F7"}},
		"negative shape":  {{Name: "a", DType: safetensors.F32, Shape: []int{-1}}},
		"the reserved":    {{Name: "__metadata__", DType: safetensors.U8, Shape: []int{0}}},
		"not UTF-8":       {{Name: "\xff", DType: safetensors.U8, Shape: []int{0}}},
		"overflowing":     {{Name: "a", DType: safetensors.F64, Shape: []int{1 << 40, 1 << 40}}},
		"zero times huge": {{Name: "a", DType: safetensors.F64, Shape: []int{1 << 40, 1 << 40, 0}}},
	}
	for name, in := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := safetensors.Write(filepath.Join(dir, "x"), nil, in); err == nil {
				t.Error("no error")
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestWriteStreamFailure(t *testing.T) {
	dir, broken := t.TempDir(), errors.New("disk full")
	specs := []safetensors.Spec{{Name: "a", DType: safetensors.U8, Shape: []int{3}}}
	err := safetensors.WriteStream(filepath.Join(dir, "x"), nil, specs, func(safetensors.Spec, io.Writer) error { return broken })
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestConversionRefuses(t *testing.T) {
	for _, tensor := range []safetensors.Tensor{
		{Name: "a", DType: safetensors.I64, Shape: []int{1}, Data: make([]byte, 8)},
		{Name: "a", DType: safetensors.F32, Shape: []int{2}, Data: make([]byte, 7)},
	} {
		if _, err := tensor.Float32s(); err == nil {
			t.Errorf("%s %v of %d bytes gave floats", tensor.DType, tensor.Shape, len(tensor.Data))
		}
	}
	if _, err := safetensors.FromFloat32s("a", safetensors.F32, []int{3}, make([]float32, 2)); err == nil {
		t.Error("2 values made a [3]")
	}
	if _, err := safetensors.FromFloat32s("a", safetensors.I8, []int{2}, make([]float32, 2)); err == nil {
		t.Error("floats made an I8")
	}
}

// What is written is what is read, for any tensors.
func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	dtypes := []safetensors.DType{
		safetensors.Bool, safetensors.I8, safetensors.F8E4M3, safetensors.BF16, safetensors.F16,
		safetensors.I32, safetensors.F32, safetensors.F64, safetensors.C64, safetensors.U64,
	}
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-zé"\\.<\x{1}]{1,8}`), 0, 6, rapid.ID).Draw(t, "names")
		want := map[string]safetensors.Tensor{}
		var list []safetensors.Tensor
		for _, name := range names {
			tensor := safetensors.Tensor{Name: name, DType: rapid.SampledFrom(dtypes).Draw(t, "dtype")}
			tensor.Shape = rapid.SliceOfN(rapid.IntRange(0, 4), 0, 3).Draw(t, "shape")
			size := tensor.Len() * tensor.DType.Size()
			tensor.Data = rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "data")
			want[name] = tensor
			list = append(list, tensor)
		}
		path := filepath.Join(dir, "x.safetensors")
		if err := safetensors.Write(path, map[string]string{"a": "ü\n"}, list); err != nil {
			t.Fatal(err)
		}
		file, err := safetensors.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close() //nolint:errcheck // a test
		if len(file.Names()) != len(want) || file.Metadata()["a"] != "ü\n" {
			t.Fatalf("names %q, metadata %q", file.Names(), file.Metadata())
		}
		for name, w := range want {
			got, _ := file.Tensor(name)
			if got.DType != w.DType || !slices.Equal(got.Shape, w.Shape) || !slices.Equal(got.Data, w.Data) {
				t.Fatalf("%q: got %v, want %v", name, got, w)
			}
		}
	})
}

// Whatever the bytes, Parse gives tensors that lie within them, or a CorruptError.
func FuzzParse(f *testing.F) {
	reference, err := os.ReadFile("testdata/reference.safetensors")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(reference)
	f.Add(compose(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, "12345678"))
	f.Add(compose(`{"__metadata__":null,"a":{"dtype":"BOOL","shape":[],"data_offsets":[0,1]}}  `, "1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := safetensors.Parse("fuzz", data)
		if err != nil {
			if _, ok := errors.AsType[*safetensors.CorruptError](err); !ok {
				t.Fatalf("not a CorruptError: %v", err)
			}
			return
		}
		total := 0
		for _, name := range file.Names() {
			tensor, ok := file.Tensor(name)
			if !ok || len(tensor.Data) != tensor.Len()*tensor.DType.Size() {
				t.Fatalf("%q: %v", name, tensor)
			}
			total += len(tensor.Data)
			_, _ = tensor.Float32s()
			_, _ = tensor.Int64s()
		}
		if total > len(data) {
			t.Fatalf("%d bytes of tensors in %d", total, len(data))
		}
	})
}

func BenchmarkFloat32s(b *testing.B) {
	for _, dtype := range []safetensors.DType{safetensors.F32, safetensors.BF16, safetensors.F16} {
		b.Run(string(dtype), func(b *testing.B) {
			tensor, err := safetensors.FromFloat32s("x", dtype, []int{1 << 20}, make([]float32, 1<<20))
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(tensor.Data)))
			for b.Loop() {
				_, _ = tensor.Float32s()
			}
		})
	}
}
