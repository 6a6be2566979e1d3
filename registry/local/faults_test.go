package local_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/t5ctl/t5ctl/internal/digest"
	"github.com/t5ctl/t5ctl/registry"
	"github.com/t5ctl/t5ctl/registry/local"
	"github.com/t5ctl/t5ctl/registry/registrytest"
)

// tempDir is a folder in memory, where the system has such: what is tested here is crashes of
// processes, and waiting for a busy disk would add nothing to it.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "registry-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func open(root string) *registry.Registry {
	return registry.New(local.Open(root), registry.Options{Actor: "test"})
}

// filled makes a store with versions 1 to n of model m, the first of them served by prod.
func filled(t testing.TB, n int) (root string, folders []string) {
	t.Helper()
	root = filepath.Join(tempDir(t), "registry")
	for i := range n {
		dir := registrytest.WriteModel(t, tempDir(t), byte(i))
		if err := pushFolder(open(root), dir); err != nil {
			t.Fatal(err)
		}
		folders = append(folders, dir)
	}
	if n > 0 {
		if err := promoteRef(open(root), "m@v1", "prod", "none"); err != nil {
			t.Fatal(err)
		}
	}
	return root, folders
}

func copyStore(t testing.TB, root string) string {
	t.Helper()
	dir := filepath.Join(tempDir(t), "copy")
	if err := os.CopyFS(dir, os.DirFS(root)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// exitOf runs a child to its end and gives its exit code, -1 if it was killed.
func exitOf(t testing.TB, cmd *exec.Cmd) int {
	t.Helper()
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

// sound fails unless the whole model is sound; drift of tags is allowed where a writer died
// between log and index.
func sound(t testing.TB, root string, drift bool) {
	t.Helper()
	audit, err := open(root).Audit(t.Context(), "m", true)
	for _, problem := range audit.Problems {
		if !drift || !strings.HasPrefix(problem, "tag ") {
			t.Errorf("%s", problem)
		}
	}
	if err != nil && len(audit.Problems) == 0 {
		t.Error(err)
	}
}

// leftovers are the temporary files of dead writers.
func leftovers(t testing.TB, root string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if strings.Contains(filepath.Base(path), ".tmp-") {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func versions(t testing.TB, root string) int {
	t.Helper()
	list, err := open(root).List(t.Context(), "m")
	if missing := (*registry.NotFoundError)(nil); err != nil && !errors.As(err, &missing) {
		t.Fatal(err)
	}
	return len(list)
}

// TestKilledAtEveryStep kills push, promote and gc at each step of their writing in turn. The
// store opens, holds nothing half, and the same command again finishes the work.
func TestKilledAtEveryStep(t *testing.T) {
	base, _ := filled(t, 2)
	fresh := registrytest.WriteModel(t, tempDir(t), 9)
	orphans := []string{"one", "two", "three"}
	orphan := func(root, content string) string {
		return filepath.Join(root, "m", "blobs", "sha256", strings.TrimPrefix(digest.Bytes([]byte(content)), "sha256:"))
	}
	jobs := map[string]struct {
		args    []string
		after   func(t *testing.T, root string)
		prepare func(t *testing.T, root string)
	}{
		"push": {args: []string{"push", "ROOT", fresh}, after: func(t *testing.T, root string) {
			if n := versions(t, root); n != 3 {
				t.Errorf("%d versions", n)
			}
		}},
		"first push": {args: []string{"push", "EMPTY", fresh}, after: func(t *testing.T, root string) {
			if n := versions(t, root); n != 1 {
				t.Errorf("%d versions", n)
			}
		}},
		"promote": {args: []string{"promote", "ROOT", "m@v2", "prod", ""}, after: func(t *testing.T, root string) {
			if v, err := open(root).Resolve(t.Context(), registry.Ref{Model: "m", Channel: "prod"}); err != nil || v.Version != 2 {
				t.Errorf("prod serves %s, %v", v.Name, err)
			}
		}},
		"gc": {args: []string{"collect", "ROOT"}, prepare: func(t *testing.T, root string) {
			for _, content := range orphans {
				if err := os.WriteFile(orphan(root, content), []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}, after: func(t *testing.T, root string) {
			for _, content := range orphans {
				if _, err := os.Stat(orphan(root, content)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the orphan %s is left: %v", content, err)
				}
			}
		}},
		"rotate": {args: []string{"rotate", "ROOT"}, prepare: func(t *testing.T, root string) {
			if _, err := keysOf(root).Create("ci"); err != nil {
				t.Fatal(err)
			}
		}, after: func(t *testing.T, root string) {
			now, err := keysOf(root).Load("ci")
			history, historyErr := open(root).History(t.Context(), "m", "", registry.Moment{})
			if err != nil || historyErr != nil {
				t.Fatal(err, historyErr)
			}
			found := false
			for _, e := range history.Events {
				found = found || e.Kind == registry.KindRotate && e.Key.Next == now.ID
			}
			if !found {
				t.Errorf("no record names the key %s", now.ID)
			}
		}},
	}
	for name, job := range jobs {
		t.Run(name, func(t *testing.T) {
			for step := 1; ; step++ {
				if step > 200 {
					t.Fatal("no end")
				}
				root := filepath.Join(tempDir(t), "empty")
				if job.args[1] == "ROOT" {
					root = copyStore(t, base)
				}
				args := slices.Clone(job.args)
				args[1] = root
				if job.prepare != nil {
					job.prepare(t, root)
				}
				if args[0] == "promote" {
					args[4] = "v1"
				}
				code := exitOf(t, child(t, append(args, fmt.Sprint(step))...))
				if versions(t, root) > 0 {
					sound(t, root, true)
				}
				if job.args[0] == "rotate" && code == 0 { // it is done, and a second one would be another
					job.after(t, root)
					t.Logf("faults: folder: %s killed at each of its %d steps: opens, verifies, and the same command ends it", name, step-1)
					return
				}
				if again := exitOf(t, child(t, again(args, code)...)); again != 0 {
					t.Fatalf("step %d: the same command again: exit %d", step, again)
				}
				sound(t, root, false)
				job.after(t, root)
				if code == 0 {
					t.Logf("faults: folder: %s killed at each of its %d steps: opens, verifies, and the same command ends it", name, step-1)
					return
				}
			}
		})
	}
}

// again is the command that a user repeats: a promotion that may have been done already does
// not expect the old version.
func again(args []string, _ int) []string {
	args = slices.Clone(args)
	if args[0] == "promote" {
		args[4] = "v1"
		if v, err := open(args[1]).Resolve(context.Background(), registry.Ref{Model: "m", Channel: "prod"}); err == nil {
			args[4] = fmt.Sprintf("v%d", v.Version)
		}
	}
	return args
}

// TestKilledAtAnyTime kills a process that pushes, promotes, collects and rotates a key without end, 40 times
// at other moments, and looks at what it has left.
func TestKilledAtAnyTime(t *testing.T) {
	root := filepath.Join(tempDir(t), "registry")
	if _, err := keysOf(root).Create("ci"); err != nil {
		t.Fatal(err)
	}
	a, b := registrytest.WriteModel(t, tempDir(t), 1), registrytest.WriteModel(t, tempDir(t), 2)
	random := rand.New(rand.NewPCG(40, 1))
	var last int64
	for range 40 {
		cmd := child(t, "busy", root, a, b)
		ready, err := cmd.StdoutPipe()
		if err = errors.Join(err, cmd.Start()); err != nil {
			t.Fatal(err)
		}
		for range random.IntN(8) { // each line is a push and a promotion that are done
			if _, err := ready.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Duration(random.IntN(10_000)) * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		if versions(t, root) == 0 {
			continue
		}
		sound(t, root, true)
		audit, _ := open(root).Audit(t.Context(), "m", false)
		if audit.Head.Seq < last {
			t.Fatalf("the log had %d records, now it has %d", last, audit.Head.Seq)
		}
		last = audit.Head.Seq
	}
	if err := errors.Join(pushFolder(open(root), a), pushFolder(open(root), b), rotate(root, local.Open(root))); err != nil {
		t.Fatal(err)
	}
	sound(t, root, false)
	checkRotations(t, root)
	if n := versions(t, root); n != 2 {
		t.Errorf("%d versions of two models", n)
	}
	if _, err := open(root).Collect(t.Context(), "m", registry.SweepOptions{}); err != nil {
		t.Fatal(err)
	}
	if left := leftovers(t, root); len(left) > 0 {
		t.Errorf("gc left %v", left)
	}
	sound(t, root, false)
	t.Logf("faults: folder: push, promote, gc and rotate killed at 40 random moments, %d records, nothing torn", last)
}

// checkRotations holds that each key was followed by the one that the next rotation ended, and the last by
// the key that is in use: no death between log and key file has cut the chain.
func checkRotations(t *testing.T, root string) {
	t.Helper()
	now, err := keysOf(root).Load("ci")
	if err != nil {
		t.Fatal(err)
	}
	history, err := open(root).History(t.Context(), "m", "", registry.Moment{})
	if err != nil {
		t.Fatal(err)
	}
	next, rotations := "", 0
	for _, e := range history.Events {
		if e.Kind != registry.KindRotate {
			continue
		}
		if rotations++; next != "" && e.Key.ID != next {
			t.Errorf("record %d has %s followed by %s, the one before named %s", e.Seq, e.Key.ID, e.Key.Next, next)
		}
		next = e.Key.Next
	}
	if rotations == 0 || next != now.ID {
		t.Errorf("after %d rotations the log names key %s, in use is %s", rotations, next, now.ID)
	}
}

// TestTwentyProcesses lets twenty processes write to one store at once, beside one that collects without end and spares
// nothing for its age:
// each pushes a version and promotes it to a channel of its own, and all want one channel of which one gets it.
func TestTwentyProcesses(t *testing.T) {
	const processes = 20
	root, folders := filled(t, 1)
	for i := range processes {
		folders = append(folders, registrytest.WriteModel(t, tempDir(t), byte(i+100)))
	}
	sweeper := child(t, "sweep", root)
	if err := sweeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = sweeper.Process.Kill() // it fails where the process has ended, which the code tells
		_ = sweeper.Wait()
		if code := sweeper.ProcessState.ExitCode(); code != -1 {
			t.Errorf("gc ended by itself, with %d", code)
		}
	}()
	all := func(job func(i int) []string) []int {
		var cmds []*exec.Cmd
		for i := range processes {
			cmd := child(t, job(i)...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			cmds = append(cmds, cmd)
		}
		codes := map[int]int{}
		for _, cmd := range cmds {
			_ = cmd.Wait() // the exit code says it
			codes[cmd.ProcessState.ExitCode()]++
		}
		return []int{codes[0], codes[5]}
	}
	if codes := all(func(i int) []string { return []string{"push", root, folders[i+1]} }); codes[0] != processes {
		t.Fatalf("%d of %d pushes succeeded", codes[0], processes)
	}
	if n := versions(t, root); n != processes+1 {
		t.Errorf("%d versions after %d pushes", n, processes)
	}
	own := all(func(i int) []string {
		return []string{"promote", root, fmt.Sprintf("m@v%d", i+2), fmt.Sprintf("c%d", i), "none"}
	})
	channels, err := open(root).Channels(t.Context(), "m")
	if err != nil || own[0] != processes || len(channels) != processes+1 {
		t.Errorf("%d promotions succeeded, %d channels are there, %v", own[0], len(channels), err)
	}
	one := all(func(i int) []string { return []string{"promote", root, fmt.Sprintf("m@v%d", i+2), "prod", "v1"} })
	t.Logf("faults: folder: %d processes beside gc without grace: %d pushes and %d promotions kept, %d winner of one channel", processes, processes, own[0], one[0])
	if one[0] != 1 || one[1] != processes-1 {
		t.Errorf("%d winners and %d conflicts of %d", one[0], one[1], processes)
	}
	sound(t, root, false)
}

// TestFullDisk lets writes fail beyond a size: in a blob, in the log, and in the index.
func TestFullDisk(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no limit on the size of files there")
	}
	t.Setenv("REGISTRY_TEST_QUIET", "1")
	base, _ := filled(t, 2)
	size := func(root, name string) int64 {
		info, err := os.Stat(filepath.Join(root, "m", name))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	big := registrytest.WriteModel(t, tempDir(t), 9)
	if err := os.WriteFile(filepath.Join(big, "model.safetensors"), bytes.Repeat([]byte("weights "), 1<<16), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		limit func(root string) int64
		job   []string
		moved bool // the log was written, only the tags were not
	}{
		"in a blob":  {func(root string) int64 { return size(root, "log.jsonl") * 4 }, []string{"push", big}, false},
		"in the log": {func(root string) int64 { return size(root, "log.jsonl") + 100 }, []string{"promote", "m@v2", "prod", "v1"}, false},
		"in the index": {func(root string) int64 {
			fatten(t, root)
			return size(root, "index.json") - 100
		}, []string{"promote", "m@v2", "prod", "v1"}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := copyStore(t, base)
			limit := tt.limit(root)
			before, _ := os.ReadFile(filepath.Join(root, "m", "log.jsonl"))
			if code := exitOf(t, child(t, append([]string{"limited", root, fmt.Sprint(limit)}, tt.job...)...)); code != 1 {
				t.Fatalf("exit %d", code)
			}
			after, _ := os.ReadFile(filepath.Join(root, "m", "log.jsonl"))
			if moved := !bytes.Equal(before, after); moved != tt.moved {
				t.Errorf("the log has %d bytes, it had %d", len(after), len(before))
			}
			if left := leftovers(t, root); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			sound(t, root, tt.moved)
			if err := promoteRef(open(root), "m@v2", "prod", ""); err != nil {
				t.Errorf("with room again: %v", err)
			}
			sound(t, root, false)
		})
	}
}

// fatten gives the index entries of another tool, so that it is longer than the log.
func fatten(t testing.TB, root string) {
	t.Helper()
	path := filepath.Join(root, "m", ocispec.ImageIndexFile)
	var index map[string]json.RawMessage
	var entries []ocispec.Descriptor
	data, err := os.ReadFile(path)
	if err = errors.Join(err, json.Unmarshal(data, &index)); err == nil {
		err = json.Unmarshal(index["manifests"], &entries)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		entry := entries[0]
		entry.Annotations = map[string]string{ocispec.AnnotationRefName: fmt.Sprintf("foreign-%d", i)}
		entries = append(entries, entry)
	}
	index["manifests"], _ = json.Marshal(entries)
	data, _ = json.Marshal(index)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// blobOf is the file of the blob that a layer of v1 is kept in.
func blobOf(t testing.TB, root, path string) string {
	t.Helper()
	detail, err := open(root).Show(t.Context(), registry.Ref{Model: "m", Version: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range detail.Layers {
		if layer.Path == path {
			return filepath.Join(root, "m", "blobs", "sha256", strings.TrimPrefix(layer.Digest, "sha256:"))
		}
	}
	t.Fatalf("no layer %s", path)
	return ""
}

// harm returns ways to damage a file.
func harm() map[string]func(path string) error {
	change := func(f func([]byte) []byte) func(string) error {
		return func(path string) error {
			data, err := os.ReadFile(path)
			return errors.Join(err, os.Remove(path), os.WriteFile(path, f(data), 0o644))
		}
	}
	return map[string]func(string) error{
		"one bit":   change(func(b []byte) []byte { b[len(b)/2] ^= 1; return b }),
		"truncated": change(func(b []byte) []byte { return b[:len(b)/2] }),
		"empty":     change(func([]byte) []byte { return nil }),
		"zeroes":    change(func(b []byte) []byte { return make([]byte, len(b)) }),
		"longer":    change(func(b []byte) []byte { return append(b, 'x') }),
		"missing":   os.Remove,
	}
}

// TestDamagedBlob damages every kind of blob in every way: verify names it, pull keeps nothing,
// no channel moves to it, and pushing the model again heals it.
func TestDamagedBlob(t *testing.T) {
	base, folders := filled(t, 1)
	manifest := func(root string) string {
		v, err := open(root).Resolve(t.Context(), registry.Ref{Model: "m", Version: 1})
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Join(root, "m", "blobs", "sha256", strings.TrimPrefix(v.Digest, "sha256:"))
	}
	evidence := func(root string) string {
		v, err := open(root).Resolve(t.Context(), registry.Ref{Model: "m", Version: 1})
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Join(root, "m", "blobs", "sha256", strings.TrimPrefix(v.Evidence[0].Digest, "sha256:"))
	}
	victims := map[string]func(root string) string{
		"weights":  func(root string) string { return blobOf(t, root, "model.safetensors") },
		"manifest": manifest,
		"evidence": evidence,
	}
	for victim, find := range victims {
		for name, hurt := range harm() {
			t.Run(victim+" "+name, func(t *testing.T) {
				root := copyStore(t, base)
				path := find(root)
				if err := hurt(path); err != nil {
					t.Fatal(err)
				}
				checkDamage(t, root, filepath.Base(path), victim != "evidence")
				if err := pushFolder(open(root), folders[0]); err != nil {
					t.Fatal(err)
				}
				if n := versions(t, root); n != 1 {
					t.Errorf("healing made %d versions", n)
				}
				sound(t, root, false)
			})
		}
	}
}

func checkDamage(t *testing.T, root, sum string, pulled bool) {
	t.Helper()
	ref := registry.Ref{Model: "m", Version: 1}
	damaged := func(what string, err error) {
		t.Helper()
		if e := (*registry.CorruptError)(nil); !errors.As(err, &e) || e.Digest != "sha256:"+sum {
			t.Errorf("%s: %v does not name sha256:%s", what, err, sum)
		}
	}
	_, err := open(root).Verify(t.Context(), ref)
	damaged("verify", err)
	_, err = open(root).Audit(t.Context(), "m", true)
	damaged("audit", err)
	damaged("promote", promoteRef(open(root), "m@v1", "staging", ""))
	dir := filepath.Join(tempDir(t), "pulled")
	_, err = open(root).Pull(t.Context(), ref, dir)
	if !pulled {
		if err != nil {
			t.Errorf("a pull needs no evidence: %v", err)
		}
		return
	}
	damaged("pull", err)
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("pull has left something: %v", err)
	}
	if left := leftovers(t, filepath.Dir(dir)); len(left) > 0 {
		t.Errorf("pull has left %v", left)
	}
}

// TestDamagedLog changes the log in ways that an accident or a hand would: nothing is resolved
// by it, and repair restores it from the records that are kept as blobs.
func TestDamagedLog(t *testing.T) {
	base, _ := filled(t, 3)
	lines := func(b []byte) [][]byte { return bytes.Split(bytes.TrimSpace(b), []byte("\n")) }
	join := func(l [][]byte) []byte { return append(bytes.Join(l, []byte("\n")), '\n') }
	changes := map[string]func([]byte) []byte{
		"one bit":            func(b []byte) []byte { b[len(b)/3] ^= 1; return b },
		"last record gone":   func(b []byte) []byte { l := lines(b); return join(l[:len(l)-1]) },
		"first record gone":  func(b []byte) []byte { return join(lines(b)[1:]) },
		"record in between":  func(b []byte) []byte { l := lines(b); return join(slices.Delete(l, 1, 2)) },
		"another order":      func(b []byte) []byte { l := lines(b); l[1], l[2] = l[2], l[1]; return join(l) },
		"a record twice":     func(b []byte) []byte { l := lines(b); return join(append(l, l[len(l)-1])) },
		"empty":              func([]byte) []byte { return nil },
		"reason rewritten":   func(b []byte) []byte { return bytes.Replace(b, []byte(`"actor":"test"`), []byte(`"actor":"eve!"`), 1) },
		"spaces":             func(b []byte) []byte { return bytes.Replace(b, []byte(`,"seq"`), []byte(`, "seq"`), 1) },
		"a key twice":        func(b []byte) []byte { return bytes.Replace(b, []byte(`"seq":1`), []byte(`"seq":9,"seq":1`), 1) },
		"half a last record": func(b []byte) []byte { return b[:len(b)-20] },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			root := copyStore(t, base)
			path := filepath.Join(root, "m", "log.jsonl")
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, change(bytes.Clone(whole)), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err = open(root).Resolve(t.Context(), registry.Ref{Model: "m", Channel: "prod"})
			if e := (*registry.CorruptError)(nil); !errors.As(err, &e) {
				t.Fatalf("resolved by a damaged log: %v", err)
			}
			if err := promoteRef(open(root), "m@v2", "prod", ""); err == nil {
				t.Fatal("promoted by a damaged log")
			}
			if _, err := open(root).Repair(t.Context(), "m"); err != nil {
				t.Fatal(err)
			}
			if mended, _ := os.ReadFile(path); !bytes.Equal(mended, whole) {
				t.Errorf("the log was not restored")
			}
			sound(t, root, false)
		})
	}
}

// TestUnfinishedRecord leaves half a record at the end of the log, as a writer does that dies in
// the middle: it never counted, and the next writer removes it.
func TestUnfinishedRecord(t *testing.T) {
	root, _ := filled(t, 2)
	path := filepath.Join(root, "m", "log.jsonl")
	log, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = log.WriteString(`{"schema":"t5ctl.event/v1","seq":4,"prev":"sha256:`)
	if err := errors.Join(err, log.Close()); err != nil {
		t.Fatal(err)
	}
	sound(t, root, false)
	if err := promoteRef(open(root), "m@v2", "prod", "v1"); err != nil {
		t.Fatal(err)
	}
	sound(t, root, false)
}

// TestDamagedIndex damages the copy that other tools read: resolving goes on, audit tells, and
// the next writer mends it.
func TestDamagedIndex(t *testing.T) {
	base, _ := filled(t, 2)
	for name, hurt := range harm() {
		t.Run(name, func(t *testing.T) {
			root := copyStore(t, base)
			path := filepath.Join(root, "m", ocispec.ImageIndexFile)
			if err := hurt(path); err != nil {
				t.Fatal(err)
			}
			if v, err := open(root).Resolve(t.Context(), registry.Ref{Model: "m", Channel: "prod"}); name != "one bit" && (err != nil || v.Version != 1) {
				t.Fatalf("prod serves %s, %v", v.Name, err)
			}
			if name != "one bit" { // which may fall into an annotation that nobody misses
				if _, err := open(root).Audit(t.Context(), "m", false); err == nil {
					t.Error("audit does not tell")
				}
			}
			if _, err := open(root).Repair(t.Context(), "m"); err != nil {
				t.Fatal(err)
			}
			sound(t, root, false)
		})
	}
}

// TestForeignEntries keeps what other tools put into the index: their tags, and manifests
// without a name; a tag of ours that they moved is told and mended.
func TestForeignEntries(t *testing.T) {
	root, _ := filled(t, 2)
	fatten(t, root)
	sound(t, root, false)
	path := filepath.Join(root, "m", ocispec.ImageIndexFile)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	v2, err := open(root).Resolve(t.Context(), registry.Ref{Model: "m", Version: 2})
	if err != nil {
		t.Fatal(err)
	}
	v1, err := open(root).Resolve(t.Context(), registry.Ref{Model: "m", Version: 1})
	if err != nil {
		t.Fatal(err)
	}
	moved := bytes.ReplaceAll(data, []byte(v1.Digest), []byte(v2.Digest)) // every tag of v1, prod among them
	if err := os.WriteFile(path, moved, 0o644); err != nil {
		t.Fatal(err)
	}
	if v, err := open(root).Resolve(t.Context(), registry.Ref{Model: "m", Channel: "prod"}); err != nil || v.Version != 1 {
		t.Errorf("a moved tag decides: %s, %v", v.Name, err)
	}
	audit, err := open(root).Audit(t.Context(), "m", false)
	if err == nil || len(audit.Problems) != 2 {
		t.Errorf("audit tells %v", audit.Problems)
	}
	if err := promoteRef(open(root), "m@v2", "prod", ""); err != nil {
		t.Fatal(err)
	}
	sound(t, root, false)
	tags, _, err := local.Open(root).Tags(t.Context(), "m")
	if err != nil {
		t.Fatal(err)
	}
	foreign := 0
	for _, tag := range tags {
		if strings.HasPrefix(tag.Name, "foreign-") {
			foreign++
		}
	}
	if foreign != 100 {
		t.Errorf("%d of 100 foreign tags are left", foreign)
	}
}

// TestCollect removes what nothing names, but nothing young.
func TestCollect(t *testing.T) {
	root, _ := filled(t, 2)
	orphan := filepath.Join(root, "m", "blobs", "sha256", strings.Repeat("ab", 32))
	if err := os.WriteFile(orphan, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	collect := func(options registry.SweepOptions) int {
		t.Helper()
		swept, err := open(root).Collect(t.Context(), "m", options)
		if err != nil {
			t.Fatal(err)
		}
		return len(swept)
	}
	if n := collect(registry.SweepOptions{Grace: time.Hour}); n != 0 {
		t.Errorf("%d young blobs were removed", n)
	}
	if n := collect(registry.SweepOptions{DryRun: true}); n != 1 {
		t.Errorf("would remove %d blobs", n)
	}
	if n := collect(registry.SweepOptions{}); n != 1 {
		t.Errorf("%d blobs were removed", n)
	}
	if _, err := os.Stat(orphan); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the orphan is there: %v", err)
	}
	sound(t, root, false)
}
