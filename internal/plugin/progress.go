package plugin

import "time"

// Step is what an installation is doing.
type Step string

// The steps, in the order in which they come; the last two once a wheel.
const (
	StepWait   Step = "wait"   // for another process that installs
	StepCheck  Step = "check"  // a digest of what is there
	StepFetch  Step = "fetch"  // a wheel
	StepUnpack Step = "unpack" // a wheel
)

// Progress says how far a step is.
type Progress struct {
	Step        Step
	Name        string // the file it is about
	Done, Total int64  // bytes; Total is 0 where it is not known
}

// meter tells how far an installation is, ten times a second at most.
type meter struct {
	tell func(Progress)
	now  Progress
	told time.Time
}

const tellEvery = 100 * time.Millisecond

func (m *meter) start(step Step, name string, total int64) {
	m.now = Progress{Step: step, Name: name, Total: total}
	m.report(true)
}

func (m *meter) add(n int64) { m.set(m.now.Done + n) }

func (m *meter) set(done int64) {
	m.now.Done = done
	m.report(done == m.now.Total)
}

func (m *meter) report(must bool) {
	if m.tell == nil || !must && time.Since(m.told) < tellEvery {
		return
	}
	m.told = time.Now()
	m.tell(m.now)
}
