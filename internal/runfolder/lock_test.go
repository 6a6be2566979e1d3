package runfolder_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/t5ctl/t5ctl/internal/runfolder"
)

// heldDir makes this test binary a process that locks that folder until its input ends.
const heldDir = "T5CTL_TEST_LOCK"

func TestMain(m *testing.M) {
	dir := os.Getenv(heldDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	if _, _, _, err := runfolder.Create(dir); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("locked")
	_, _ = bufio.NewReader(os.Stdin).ReadByte() // ends when the parent lets go, or dies
}

func TestOneProcessTrainsInAFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), heldDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "locked\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}

	_, _, _, err = runfolder.Create(dir)
	locked, ok := errors.AsType[*runfolder.LockedError](err)
	if !ok || locked.PID != cmd.Process.Pid {
		t.Errorf("Create beside process %d gave %v", cmd.Process.Pid, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed

	_, record, lock, err := runfolder.Create(dir)
	if err != nil || record != nil {
		t.Fatalf("after the other was killed: record %v, %v", record, err)
	}
	if _, _, _, err := runfolder.Create(dir); err == nil {
		t.Error("one process locked the folder twice")
	}
	lock.Release()
	_, _, again, err := runfolder.Create(dir)
	if err != nil {
		t.Fatalf("after its release: %v", err)
	}
	again.Release()
}

func TestFolderOfSomethingElseIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.tex"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, _, err := runfolder.Create(dir)
	if _, ok := errors.AsType[*runfolder.OccupiedError](err); !ok {
		t.Errorf("Create over another folder gave %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the folder now holds %v, %v", entries, err)
	}
}
