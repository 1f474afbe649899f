//go:build linux

// Package stokehold makes a program a worker of a Stokehold parent: one file, for Go 1.19 and later on Linux, with nothing but
// the standard library. A function becomes a worker by
//
//	stokehold.Serve(func(task *stokehold.Task) (any, error) {
//		return task.Input(), nil
//	})
//
// and several, with inputs of their own types, become one by
//
//	var worker stokehold.Worker
//	worker.Handle("longest", stokehold.Typed(func(task *stokehold.Task, words []string) (string, error) {
//		sort.Slice(words, func(i, j int) bool { return len(words[i]) > len(words[j]) })
//		return words[0], nil
//	}))
//	worker.Serve()
//
// What a handler returns as its error, or panics with, fails its task and nothing else. What it prints goes to standard error.
// Tasks run one at a time in the order in which they came, unless Worker.Concurrency says otherwise.
//
// Names in brackets, such as [W-10], are the statements of protocol/SPEC.md that a line keeps.
package stokehold

import (
	"bytes"
	"context"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"reflect"
	"runtime"
	"runtime/debug"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"
	"unsafe"
)

const (
	lenMin          = 5
	lenMax          = 0x07FF_FFFF
	maxFrameDefault = 0x00FF_FFFF
	maxFrameMin     = 65_536
	helloLenMax     = 65_536
	headerBytes     = 8
	headBytesMax    = 283
	requestBytesMax = 255
	addressMax      = 1<<53 - 1
	depthMax        = 64
	windowMax       = 65_536
	overdraftMax    = 65_536
	pingBytesMax    = 64
	batchItemsMax   = 65_535
	batchGiveBytes  = 1 << 16
	batchGiveAfter  = 4 * time.Millisecond
	chunk           = 1 << 16
	backlogBytes    = 1 << 26

	exitFailed       = 1
	exitWrongStart   = 2
	exitTruncated    = 3
	exitParentBroke  = 4
	exitIncompatible = 5
	exitPermanent    = 125

	// Handlers below `tiny` are cheaper than the write of their answers; so many in a row, and answers may wait for each other.
	tiny      = 100 * time.Microsecond
	long      = time.Millisecond
	proof     = 128
	heldBytes = 1 << 15
	heldFor   = time.Millisecond

	progressEvery = 50 * time.Millisecond
	logsASecond   = 10_000

	// Together below the 60,000 bytes that always fit [E-10].
	messageBytes = 16_384
	traceBytes   = 30_000
	causes       = 16
	behindMax    = 64 // errors of which one is looked through
	causeBytes   = 512
	textBytes    = 32_768
)

// A Handler does one task. The result is nil, a bool, any integer or float, a text, bytes, or slices, maps with texts as keys,
// structs and pointers made of those (see Typed for structs). An error fails the task, and nothing else.
type Handler func(task *Task) (result any, err error)

// Typed makes a Handler of a function whose input has a type of its own; input that does not fit fails the task with bad_data.
//
// Structs are maps: an exported field has the name of its tag `stokehold:"name"`, else of its tag `json:"name"`, else its own.
// "-" leaves a field out, and ",omitempty" does so when it is empty. What an input lacks stays zero, keys without a field are
// ignored, and nil fits pointers, slices, maps and interfaces only. Types that are texts by encoding.TextMarshaler are texts.
func Typed[In, Out any](function func(task *Task, input In) (Out, error)) Handler {
	return func(task *Task) (any, error) {
		var input In
		if err := task.Decode(&input); err != nil {
			return nil, err
		}
		return function(task, input)
	}
}

// A Worker has handlers and how they are to be run. Its zero value is ready for Handle.
type Worker struct {
	// Concurrency is how many handlers may run at a time, each on a goroutine of its own. Zero means 1: tasks run in the order
	// of their arrival, and the parent knows which one ran when the process died.
	Concurrency int
	// Window is how many unanswered tasks the parent may send. Zero means 64, so that the next tasks are here when one is done,
	// and it is at least Concurrency. With 1 no task waits behind another.
	Window int
	// MaxFrame is the largest frame to take, in bytes, from 64 KiB to 128 MiB. Zero means 16 MiB.
	MaxFrame int
	// Init runs once before the first task, while the parent knows already that the worker lives: it loads models. Its error
	// ends the process with status 1, or 125 for one by Permanent. The task it gets can log and tell its progress.
	Init func(task *Task) error

	handlers map[string]Handler
	names    []string
}

// Handle adds the handler of a request: DO, or any name that is not ALL-CAPS. It panics at a name that cannot be one.
func (w *Worker) Handle(name string, handler Handler) {
	if name == "" || len(name) > requestBytesMax || !utf8.ValidString(name) || isProtocol(name) {
		panic(fmt.Sprintf("stokehold: no request can have the name %q", name))
	}
	if handler == nil || w.handlers[name] != nil {
		panic(fmt.Sprintf("stokehold: the request %q needs one handler", name))
	}
	if w.handlers == nil {
		w.handlers = map[string]Handler{}
	}
	w.handlers[name] = handler
	w.names = append(w.names, name)
}

// Serve serves with one handler, for DO: the request that has no name of its own. It returns as Worker.Serve does.
func Serve(handler Handler) {
	var worker Worker
	worker.Handle("DO", handler)
	worker.Serve()
}

// Serve serves until the parent ends it. It returns when all is done and main should return, and exits the process for any
// other reason, with the status that belongs to it. A process serves once.
func (w *Worker) Serve() {
	if len(w.handlers) == 0 {
		panic("stokehold: a worker needs a handler")
	}
	Guard()
	s := newSession(w, connection.source, connection.sink)
	s.hello()
	go s.read()
	go s.out.watch()
	if w.Init != nil {
		task := &Task{session: s}
		err := initialise(w.Init, task)
		task.end()
		if err != nil {
			fmt.Fprintf(os.Stderr, "stokehold: the worker could not start: %s\n", words(err))
			_, isPermanent := find[*permanentError](err)
			s.out.exit(choose(isPermanent, exitPermanent, exitFailed))
		}
	}
	s.begin()
	<-s.over
	s.finish()
}

func initialise(init func(*Task) error, task *Task) (err error) {
	defer func() {
		if thrown := recover(); thrown != nil {
			err = fmt.Errorf("%w\n%s", panicked(thrown), debug.Stack())
		}
	}()
	return init(task)
}

// Permanent marks an error of Worker.Init after which it makes no sense to start this worker again, such as a missing licence.
func Permanent(err error) error {
	return &permanentError{err}
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return words(e.err) }
func (e *permanentError) Unwrap() error { return e.err }

// A Failure is an error that says more to the parent than words. It may be wrapped: the first one in an error's chain counts.
type Failure struct {
	// Code is one of your own with a dot in it, such as "acme.no_such_image", or one of the protocol's for a worker: bad_data,
	// overloaded, unavailable, … Empty, or anything else, means "error".
	Code string
	// Message is for people.
	Message string
	// Retry says that another attempt may help, and After not before when.
	Retry bool
	After time.Duration
	// Data is a value for programs, or nil.
	Data any
	// Err is the cause, or nil.
	Err error

	refused bool // the handler did not begin
}

// Error gives the message, or the code if there is none.
func (f *Failure) Error() string {
	if f.Message == "" && f.Code != "" {
		return f.Code
	}
	return f.Message
}

// Unwrap gives the cause.
func (f *Failure) Unwrap() error { return f.Err }

func badData(format string, arguments ...any) *Failure {
	return &Failure{Code: "bad_data", Message: fmt.Sprintf(format, arguments...)}
}

func refusal(code, message string) *Failure {
	return &Failure{Code: code, Message: message, refused: true}
}

// ---- What a handler sees ----

// A Task is what is known of one task, and what can be said about it before it is answered. Any goroutine may use it.
type Task struct {
	session *session
	id      uint32
	request string
	handler Handler
	data    []byte
	refusal *Failure
	meta    *meta
	batch   *Task // the BATCH that this is one input of
	began   time.Time

	cancelled atomic.Bool
	decode    sync.Once
	input     any

	contextLock sync.Mutex
	context     context.Context
	stop        context.CancelFunc
	isOver      bool

	sayLock    sync.Mutex
	over       bool
	progress   pairs
	progressAt time.Time
}

// Request is the name of the request.
func (t *Task) Request() string { return t.request }

// Attempt is which attempt this is, from 1. Above 1 an earlier one began, and what it did may have been done.
func (t *Task) Attempt() int {
	if t.meta == nil {
		return 1
	}
	return t.meta.attempt
}

// Key is a text that is the same for every attempt of this task, and no other task's; empty if the parent gave none.
func (t *Task) Key() string {
	if t.meta == nil {
		return ""
	}
	return t.meta.key
}

// Deadline is when the answer must be there, if the parent said so.
func (t *Task) Deadline() (deadline time.Time, ok bool) {
	if t.meta == nil || t.meta.deadline < 0 {
		return time.Time{}, false
	}
	return t.began.Add(t.meta.deadline), true // [L-14]
}

// Context is done when the task was cancelled, its deadline has passed, or it has its answer. Nothing else stops a handler: one
// that takes long hands it on, or looks at it now and then, and returns its error.
func (t *Task) Context() context.Context {
	if t.batch != nil {
		return t.batch.Context()
	}
	t.contextLock.Lock()
	defer t.contextLock.Unlock()
	if t.context == nil {
		if deadline, ok := t.Deadline(); ok {
			t.context, t.stop = context.WithDeadline(context.Background(), deadline)
		} else {
			t.context, t.stop = context.WithCancel(context.Background())
		}
		if t.isOver || t.cancelled.Load() {
			t.stop()
		}
	}
	return t.context
}

// Cancelled says whether nobody wants the answer any more. It costs nothing to ask.
func (t *Task) Cancelled() bool {
	return t.cancelled.Load() || t.batch != nil && t.batch.cancelled.Load()
}

// Input is the input as nil, bool, int64 (uint64 from 2^63 on), float64, string, []byte, []any or map[string]any.
func (t *Task) Input() any {
	t.decode.Do(func() { t.input, _ = decodeAny(t.data, 0) })
	return t.input
}

// Raw is the input as it came: one MessagePack value, which was checked. Return it to send it back, or a part of it.
func (t *Task) Raw() Raw { return t.data }

// Decode puts the input into what `into` points to, as Typed describes. Its error is a Failure bad_data. Bytes are not copied.
func (t *Task) Decode(into any) error {
	return decodeInto(t.data, into)
}

// Item sends one of many results. Its error, if the value cannot be sent, is a Failure. A one-way request has no results, and
// one input of a batch has none either [B-10]: nothing happens then.
func (t *Task) Item(value any) error {
	if t.id == 0 || t.batch != nil {
		return nil
	}
	return t.say("ITEM", value)
}

// Progress tells how far the task is; a total of 0 and an empty note are left out. Call it as often as you like: one report in
// 50 ms is sent, and the last one.
func (t *Task) Progress(done, total int64, note string) {
	if t.id == 0 && t.request != "" {
		return // with id 0 it would be the progress of the start
	}
	report := pairs{{"done", done}}
	if total != 0 {
		report = append(report, pair{"total", total})
	}
	if note != "" {
		report = append(report, pair{"note", cut(note, textBytes)})
	}
	t.sayLock.Lock()
	defer t.sayLock.Unlock()
	if now := time.Now(); now.Sub(t.progressAt) >= progressEvery {
		t.progressAt, t.progress = now, nil
		_ = t.sayLocked("PROGRESS", report)
	} else if !t.over {
		t.progress = report
	}
}

// Log sends a line for the parent's log. The level is trace, debug, info, warn or error; behind the message may be pairs of a
// name and a value, for programs.
func (t *Task) Log(level, message string, fields ...any) {
	line := pairs{{"level", cut(level, 64)}, {"msg", cut(message, textBytes)}}
	for n := 0; n+1 < len(fields); n += 2 {
		if name := fmt.Sprint(fields[n]); name != "level" && name != "msg" {
			line = append(line, pair{cut(name, causeBytes), fields[n+1]})
		}
	}
	may, lost := t.session.mayLog()
	if lost > 0 {
		text := fmt.Sprintf("%d lines for the log were dropped: too many in a second", lost)
		_ = t.say("LOG", pairs{{"level", "warn"}, {"msg", text}})
	}
	if may && t.say("LOG", line) != nil {
		_ = t.say("LOG", line[:2])
	}
}

func (t *Task) say(request string, value any) error {
	t.sayLock.Lock()
	defer t.sayLock.Unlock()
	return t.sayLocked(request, value)
}

func (t *Task) sayLocked(request string, value any) error {
	if t.over {
		return errors.New("the task has its answer already")
	}
	p := packers.Get().(*packer)
	defer packers.Put(p)
	if err := p.frame(t.session.peer.Load(), t.id, request, value); err != nil {
		return err
	}
	t.session.out.add(p.bytes, mayWaitAMoment)
	return nil
}

// end lets nothing more be said: the answer follows.
func (t *Task) end() {
	t.sayLock.Lock()
	if t.progress != nil {
		_ = t.sayLocked("PROGRESS", t.progress)
	}
	t.over = true
	t.sayLock.Unlock()
	t.stopContext(true)
}

func (t *Task) cancel() {
	t.cancelled.Store(true)
	t.stopContext(false)
}

func (t *Task) stopContext(isOver bool) {
	t.contextLock.Lock()
	t.isOver = t.isOver || isOver
	if t.stop != nil {
		t.stop()
	}
	t.contextLock.Unlock()
}

// meta is what META says of the request behind it.
type meta struct {
	id       uint32
	attempt  int
	key      string
	deadline time.Duration // below 0: none
}

func newMeta(id uint32, data map[string]any) *meta {
	m := &meta{id: id, attempt: 1, deadline: -1}
	if attempt, ok := data["attempt"].(int64); ok && attempt >= 1 && attempt <= math.MaxInt32 {
		m.attempt = int(attempt)
	}
	m.key, _ = data["key"].(string)
	// What is longer than two centuries is no limit, and no time.Duration.
	if ms, ok := data["deadline_ms"].(int64); ok && ms >= 0 && ms <= math.MaxInt64/int64(time.Millisecond) {
		m.deadline = time.Duration(ms) * time.Millisecond
	}
	return m
}

// ---- The session ----

// A session is one connection: a goroutine that reads, goroutines that run handlers, and what they share.
type session struct {
	worker      *Worker
	concurrency int
	window      int
	maxFrame    int
	source      int
	out         output
	peer        atomic.Pointer[peer]
	isGreeted   bool
	over        chan struct{} // closed when all is done

	mu         sync.Mutex // guards what follows
	wake, room *sync.Cond
	queue      []*Task // from `first` on
	first      int
	open       map[uint32]*Task
	unanswered int // with those of id 0
	backlog    int // bytes of theirs
	hands      int // goroutines for handlers
	idle       int // those of them that wait and were not woken
	isReady    bool
	isEnded    bool
	isOver     bool
	code       int
	done       int64
	failed     int64
	logSecond  int64
	logs       int
	logsLost   int

	isCollecting bool // the parent was told that answers wait [W-10]; of the only hand
}

// peer is what the parent's HELLO says.
type peer struct {
	addresses   []byte // sender and recipient, as they stand in a message
	maxFrame    int
	tellsStarts bool
}

func newSession(w *Worker, source, sink int) *session {
	s := &session{worker: w, source: source, open: map[uint32]*Task{}, over: make(chan struct{})}
	s.wake, s.room = sync.NewCond(&s.mu), sync.NewCond(&s.mu)
	s.concurrency = clamp(choose(w.Concurrency == 0, 1, w.Concurrency), 1, windowMax)
	s.window = clamp(choose(w.Window == 0, 64, w.Window), s.concurrency, windowMax)
	s.maxFrame = clamp(choose(w.MaxFrame == 0, maxFrameDefault, w.MaxFrame), maxFrameMin, lenMax)
	s.out.fd = sink
	s.peer.Store(&peer{addresses: addresses(int64(os.Getpid()), 0), maxFrame: maxFrameDefault})
	return s
}

func addresses(sender, recipient int64) []byte {
	p := packer{limit: headBytesMax}
	p.integer(sender)
	if recipient == 0 {
		p.put(0xC0)
	} else {
		p.integer(recipient)
	}
	return p.bytes
}

func (s *session) hello() {
	caps := []any{"batch", "cancel", "meta", "ping"}
	if s.concurrency > 1 {
		// With one at a time the order says which task runs, and STARTED would cost a write for each.
		caps = append(caps, "started")
	}
	hello := pairs{{"v", 1}, {"window", s.window}, {"caps", caps}, {"max_frame", s.maxFrame},
		{"serial", s.concurrency == 1}, {"sdk", "stokehold-go/1"}}
	if s.window > 1 {
		hello = append(hello, pair{"window_bytes", s.backlogMax()})
	}
	size := 0
	for _, name := range s.worker.names {
		size += len(name) + 3
	}
	if size < helloLenMax-1_024 && len(s.worker.names) <= 4_096 {
		hello = append(hello, pair{"methods", s.worker.names}) // absent means any
	}
	s.tell(0, "HELLO", hello)
}

func (s *session) backlogMax() int {
	return choose(s.maxFrame > backlogBytes, s.maxFrame, backlogBytes)
}

// tell writes a frame of the session's own, whose value is known to fit.
func (s *session) tell(id uint32, request string, value any) {
	p := packers.Get().(*packer)
	defer packers.Put(p)
	if err := p.frame(s.peer.Load(), id, request, value); err == nil {
		s.out.add(p.bytes, atOnce)
	}
}

// begin says READY and lets the tasks run that came before it.
func (s *session) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.isReady = true
	if !s.isEnded {
		s.tell(0, "READY", nil)
	}
	s.rouse(len(s.queue) - s.first)
	s.settleEnd()
}

// finish follows the last answer.
func (s *session) finish() {
	s.mu.Lock()
	code, counts := s.code, pairs{{"done", s.done}, {"failed", s.failed}}
	s.mu.Unlock()
	s.out.isEnding.Store(true)
	if code == 0 {
		s.tell(0, "BYE", counts) // [S-7]
	}
	s.out.flush()
	if code != 0 {
		s.out.exit(code)
	}
}

// rouse has so many more tasks looked at: by hands that wait, else by new ones. Under the lock, as the next two.
func (s *session) rouse(tasks int) {
	for ; tasks > 0 && s.isReady; tasks-- {
		if s.idle > 0 {
			s.idle--
			s.wake.Signal()
		} else if s.hands < s.concurrency {
			s.hands++
			go s.work()
		} else {
			return
		}
	}
}

func (s *session) settleEnd() {
	if s.isReady && s.isEnded && s.hands == 0 && s.first == len(s.queue) && !s.isOver {
		s.isOver = true
		close(s.over)
	}
}

// end: nothing more will come.
func (s *session) end(code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isEnded {
		return
	}
	s.isEnded, s.code, s.idle = true, code, 0
	s.wake.Broadcast()
	s.settleEnd()
	if !s.isReady && s.unanswered == 0 {
		// Nothing was asked of it, and the start may take minutes.
		s.isOver = true
		go func() {
			s.finish()
			s.out.exit(0)
		}()
	}
}

func (s *session) mayLog() (may bool, lost int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if second := time.Now().Unix(); second != s.logSecond {
		s.logSecond, s.logs = second, 0
	}
	s.logs++
	if s.logs > logsASecond {
		s.logsLost++ // a parent may end a worker that floods it
		return false, 0
	}
	lost, s.logsLost = s.logsLost, 0
	return true, lost
}

// ---- Work: the goroutines that run handlers ----

// A hand runs one task after the other.
type hand struct {
	packer packer
	trust  int     // how sure it is that handlers are tiny
	taken  []*Task // what it alone will run: everything that waits, when it is the only one
	spare  []*Task
	task   *Task // the one that runs
}

func (s *session) work() {
	h := &hand{}
	defer func() {
		// Still there is what a handler left behind that called runtime.Goexit, which nothing stops.
		if h.task != nil {
			s.conclude(h.task, h, errors.New("the handler called runtime.Goexit"), "")
		}
		s.mu.Lock()
		s.hands--
		if len(h.taken) > 0 {
			s.queue, s.first = append(h.taken, s.queue[s.first:]...), 0
		}
		s.rouse(len(s.queue) - s.first)
		s.settleEnd()
		s.mu.Unlock()
		s.out.flush()
	}()
	for task := s.next(h); task != nil; task = s.next(h) {
		s.run(task, h)
	}
}

// next is the next task, or nil when there will be none. Nothing is held back while it waits [W-9].
func (s *session) next(h *hand) *Task {
	if len(h.taken) == 0 {
		s.mu.Lock()
		if s.first == len(s.queue) {
			s.mu.Unlock()
			s.out.flush()
			s.mu.Lock()
			for s.first == len(s.queue) && !s.isEnded {
				s.idle++
				s.wake.Wait()
			}
		}
		if s.first == len(s.queue) {
			s.mu.Unlock()
			return nil
		}
		if s.concurrency == 1 {
			h.taken, h.spare, s.queue, s.first = s.queue[s.first:], s.queue[:0], h.spare[:0], 0
		} else {
			h.taken = append(h.spare[:0], s.queue[s.first])
			h.spare = h.taken
			s.queue[s.first] = nil
			if s.first++; s.first == len(s.queue) {
				s.queue, s.first = s.queue[:0], 0
			}
		}
		s.mu.Unlock()
	}
	task := h.taken[0]
	h.taken[0] = nil
	h.taken = h.taken[1:]
	return task
}

func (s *session) run(t *Task, h *hand) {
	h.task = t
	failure := t.refusal
	if failure == nil && t.cancelled.Load() && t.request != "BATCH" {
		failure = refusal("cancelled", "cancelled before it began")
	}
	if failure == nil {
		if len(t.data) > chunk {
			s.out.flush() // to check it may take a millisecond
		}
		room := choose(t.request == "BATCH", depthMax+2, depthMax) // its map and its array are no levels [B-1]
		if end, err := check(t.data, 0, room); err != nil {
			failure = refusal("bad_data", err.Error())
		} else if end != len(t.data) {
			failure = refusal("bad_data", "bytes follow the value")
		}
	}
	if failure != nil {
		s.conclude(t, h, failure, "")
		return
	}
	if t.request == "BATCH" {
		s.runBatch(t, h)
		return
	}
	s.beforeHandler(t, h)
	t.began = time.Now()
	err, trace := invoke(t, func(result any) error {
		if t.id == 0 {
			return nil
		}
		return h.packer.frame(s.peer.Load(), t.id, "FINISHED", result)
	})
	h.judge(1, time.Since(t.began))
	s.conclude(t, h, err, trace)
}

// invoke runs the handler, and encodes its result where a panic of a method of it does no harm either.
func invoke(t *Task, encode func(result any) error) (err error, trace string) {
	isReturned := false
	defer func() {
		if !isReturned {
			// Nil is what panic(nil) gives, and runtime.Goexit, after which nothing of this is read.
			err, trace = panicked(recover()), string(debug.Stack())
		}
	}()
	result, err := t.handler(t)
	if err == nil {
		err = encode(result)
	}
	isReturned = true
	return err, ""
}

func panicked(thrown any) error {
	if err, ok := thrown.(error); ok {
		return fmt.Errorf("panic: %w", err)
	}
	return fmt.Errorf("panic: %v", thrown)
}

// conclude answers: with what is in the hand's packer if there is no error.
func (s *session) conclude(t *Task, h *hand, err error, trace string) {
	if err != nil && t.id != 0 {
		s.pack(&h.packer, t, "FAILED", err, trace)
	} else if err != nil {
		fmt.Fprintf(os.Stderr, "stokehold: the one-way request %q failed: %s\n", t.request, words(err))
	}
	t.end()
	s.mu.Lock()
	// Before the answer is written: once the parent has read it, the id may come again.
	if t.id != 0 {
		delete(s.open, t.id)
		if err == nil {
			s.done++
		} else {
			s.failed++
		}
	}
	s.unanswered--
	s.backlog -= len(t.data)
	s.room.Signal()
	s.mu.Unlock()
	if t.id != 0 {
		s.out.add(h.packer.bytes, untilFlushed)
	}
	h.task = nil
	if cap(h.packer.bytes) > 16*chunk {
		h.packer.bytes = nil // one giant answer shall not cost its memory for ever
	}
}

// pack makes the frame of a failure, without the author's own data if that cannot be sent.
func (s *session) pack(p *packer, t *Task, request string, err error, trace string) {
	report := reportOf(err, trace)
	if why := safely(func() error { return p.frame(s.peer.Load(), t.id, request, report) }); why != nil {
		fmt.Fprintf(os.Stderr, "stokehold: the data of a failure was left out: %s\n", words(why))
		_ = p.frame(s.peer.Load(), t.id, request, report.without("data"))
	}
}

// beforeHandler writes the answers that wait, so that no crash is blamed on a task that was done [L-13]; unless handlers have
// proven to be tiny and the parent was told [W-10]. Then a timer watches over the exception.
func (s *session) beforeHandler(t *Task, h *hand) {
	p := s.peer.Load()
	if p.tellsStarts && t.id != 0 {
		s.tell(t.id, "STARTED", nil) // with the answers before it
		return
	}
	mayCollect := h.trust >= proof && s.window > 1
	if s.concurrency > 1 {
		if mayCollect {
			s.out.settle()
			return
		}
	} else if mayCollect && s.isCollecting {
		s.out.settle()
		return
	} else if mayCollect || s.isCollecting {
		s.isCollecting = mayCollect
		s.tell(0, "CREDIT", pairs{{"serial", !mayCollect}})
	}
	s.out.flush()
}

func (h *hand) judge(count int, took time.Duration) {
	switch {
	case took < tiny*time.Duration(count):
		h.trust = clamp(h.trust+count, 0, 2*proof)
	case took >= long:
		h.trust = 0
	default:
		h.trust = clamp(h.trust-proof/8, 0, 2*proof)
	}
}

// A batch collects the results of many inputs that came in one frame [B-2].
type batch struct {
	mu      sync.Mutex
	task    *Task
	count   int
	results []byte
	giver   *time.Timer
	isOver  bool
	limit   int // of bytes that wait
}

func (s *session) runBatch(t *Task, h *hand) {
	name, inputs, failure := readBatch(t.data)
	handler := s.worker.handlers[name]
	if failure == nil && handler == nil {
		failure = s.unknown(name)
	}
	if failure != nil {
		s.conclude(t, h, failure, "") // [B-5]
		return
	}
	s.beforeHandler(t, h)
	s.out.flush()
	t.began = time.Now()
	limit := s.peer.Load().maxFrame - headBytesMax - 16 // with one result only
	b := &batch{task: t, limit: clamp(batchGiveBytes, 0, limit)}
	defer b.close()
	for _, data := range inputs {
		input := &Task{session: s, id: t.id, request: name, handler: handler, data: data, batch: t, began: t.began}
		result := packer{bytes: h.packer.bytes[:0], limit: limit}
		var err error
		var trace string
		if t.cancelled.Load() {
			err = refusal("cancelled", "cancelled before it began") // [B-11]
		} else {
			err, trace = invoke(input, func(value any) error {
				result.put(0x92, 0xC3)
				return result.value(value, 0)
			})
		}
		input.end()
		if err != nil {
			result.failed(err, trace)
		}
		b.add(result.bytes)
		h.packer.bytes = result.bytes
	}
	h.judge(len(inputs), time.Since(t.began))
	b.close()
	h.packer.begin(s.peer.Load(), t.id, "FINISHED")
	h.packer.length(b.count, 0x90, 16, 0, 0xDC, 0xDD)
	h.packer.put(b.results...)
	h.packer.finish()
	s.conclude(t, h, nil, "")
}

// failed makes the result of an input that failed.
func (p *packer) failed(err error, trace string) {
	report := reportOf(err, trace)
	write := func() error {
		p.bytes = p.bytes[:0]
		p.put(0x92, 0xC2)
		return p.value(report, 0)
	}
	if safely(write) != nil {
		report = report.without("data")
		_ = write()
	}
}

// add takes one more result, and gives those before it if it does not fit behind them [B-4].
func (b *batch) add(result []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.results)+len(result) > b.limit {
		b.give()
	}
	if b.count == 0 && b.giver == nil {
		b.giver = time.AfterFunc(batchGiveAfter, b.giveLate)
	}
	b.results = append(b.results, result...)
	b.count++
}

// giveLate gives what has waited long enough, or all there is: the next timer comes with the next result.
func (b *batch) giveLate() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.giver = nil
	b.give()
}

// give sends the results that wait [B-3].
func (b *batch) give() {
	if b.count == 0 || b.isOver {
		return
	}
	p := packers.Get().(*packer)
	defer packers.Put(p)
	p.begin(b.task.session.peer.Load(), b.task.id, "ITEM")
	p.length(b.count, 0x90, 16, 0, 0xDC, 0xDD)
	p.put(b.results...)
	p.finish()
	b.task.session.out.add(p.bytes, atOnce)
	b.count, b.results = 0, b.results[:0]
}

// close leaves the rest to the final answer.
func (b *batch) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.isOver = true
	if b.giver != nil {
		b.giver.Stop()
	}
}

// readBatch gives the request and the inputs of the data of BATCH, which was checked.
func readBatch(data []byte) (name string, inputs [][]byte, failure *Failure) {
	count, at, isMap := sizeOf(data, 0, 0x80, 0xDE)
	for ; isMap && count > 0; count-- {
		key, end, _ := textAt(data, at)
		value := end
		at, _ = check(data, value, depthMax+1)
		switch string(key) {
		case "req":
			text, _, _ := textAt(data, value)
			name = string(text)
		case "items":
			size, from, isArray := sizeOf(data, value, 0x90, 0xDC)
			if !isArray || size > batchItemsMax {
				return "", nil, refusal("bad_data", "the inputs of a BATCH are no array of 1 to 65,535")
			}
			for inputs = nil; size > 0; size-- {
				to, _ := check(data, from, depthMax)
				inputs = append(inputs, data[from:to:to])
				from = to
			}
		}
	}
	if name == "" || len(inputs) == 0 {
		return "", nil, refusal("bad_data", "a BATCH without a request or without inputs")
	}
	return name, inputs, nil
}

// ---- Failures ----

// reportOf is the data of FAILED: what the error says, and what is behind it.
func reportOf(err error, trace string) pairs {
	failure, _ := find[*Failure](err)
	code, isWorkers := "error", map[string]bool{"unknown_request": true, "bad_data": true, "bad_message": true,
		"too_large": true, "cancelled": true, "overloaded": true, "unavailable": true}
	if failure != nil && (isWorkers[failure.Code] || strings.Contains(failure.Code, ".")) {
		code = cut(failure.Code, requestBytesMax) // [E-2]
	} else if failure == nil && trace == "" && isCancellation(err) {
		code = "cancelled"
	}
	report := pairs{{"code", code}, {"message", cut(words(err), messageBytes)}}
	if failure != nil && failure.refused {
		report = append(report, pair{"begun", false}) // [E-9]
	}
	if failure != nil && failure.Retry {
		report = append(report, pair{"retry", true})
	}
	if failure != nil && failure.After > 0 {
		report = append(report, pair{"after_ms", (failure.After + time.Millisecond - 1).Milliseconds()})
	}
	if trace != "" {
		report = append(report, pair{"trace", cut(trace, traceBytes)})
	}
	var chain []any
	for n, cause := range behind(err) {
		if n > 0 && n <= causes {
			chain = append(chain, cut(words(cause), causeBytes))
		}
	}
	if chain != nil {
		report = append(report, pair{"chain", chain})
	}
	if failure != nil && failure.Data != nil {
		report = append(report, pair{"data", failure.Data})
	}
	return report
}

// behind gives an error and those behind it in the order of errors.As, which would not end where they form a ring.
func behind(err error) (all []error) {
	var walk func(err error)
	walk = func(err error) {
		for err != nil && len(all) < behindMax {
			all = append(all, err)
			switch one := err.(type) {
			case interface{ Unwrap() error }:
				err = one.Unwrap()
			case interface{ Unwrap() []error }:
				for _, next := range one.Unwrap() {
					walk(next)
				}
				return
			default:
				return
			}
		}
	}
	// An error of another package may have methods that panic.
	_ = safely(func() error {
		walk(err)
		return nil
	})
	return all
}

// find gives the first error of a type among an error and those behind it.
func find[T error](err error) (found T, ok bool) {
	for _, one := range behind(err) {
		if found, ok = one.(T); ok {
			return found, true
		}
		_ = safely(func() error {
			as, can := one.(interface{ As(any) bool })
			ok = can && as.As(&found)
			return nil
		})
		if ok {
			return found, true
		}
	}
	var none T
	return none, false
}

// isCancellation: the error of a context, which a handler hands on.
func isCancellation(err error) (is bool) {
	for _, one := range behind(err) {
		_ = safely(func() error {
			like, can := one.(interface{ Is(error) bool })
			is = one == context.Canceled || can && like.Is(context.Canceled)
			return nil
		})
		if is {
			return true
		}
	}
	return false
}

// words are what an error says, whatever its method does.
func words(err error) (text string) {
	defer func() {
		if recover() != nil {
			text = fmt.Sprintf("%T", err)
		}
	}()
	if text = err.Error(); text == "" {
		return fmt.Sprintf("%T", err)
	}
	return text
}

// safely makes an error of a panic.
func safely(function func() error) (err error) {
	defer func() {
		if thrown := recover(); thrown != nil {
			err = panicked(thrown)
		}
	}()
	return function()
}

// cut gives the text as it can be sent, of at most so many bytes.
func cut(text string, size int) string {
	if len(text) > size {
		for size > 0 && !utf8.RuneStart(text[size]) {
			size--
		}
		text = text[:size]
	}
	return strings.ToValidUTF8(text, "?")
}

func (s *session) unknown(name string) *Failure {
	names := cut(strings.Join(s.worker.names, ", "), 1_024)
	return refusal("unknown_request", fmt.Sprintf("%q is none of %s", cut(name, requestBytesMax), names))
}

// isProtocol: ALL-CAPS names are the protocol's, known or not; DO alone is the user's.
func isProtocol(name string) bool {
	for n := 0; n < len(name); n++ {
		c := name[n]
		isLetter := c >= 'A' && c <= 'Z'
		if !isLetter && (n == 0 || !(c >= '0' && c <= '9' || c == '_')) {
			return false
		}
	}
	return name != "" && name != "DO"
}

// ---- Reading: a goroutine that never runs a handler, so that PING and CANCEL are heard while one runs ----

type reader struct {
	session *session
	buffer  []byte
	from    int
	to      int
	arrived []*Task // not yet in the queue
	meta    *meta
	// The head of the last message: mostly the next one has the same.
	head        []byte
	headRequest string
	headHandler Handler
}

func (s *session) read() {
	r := &reader{session: s, buffer: make([]byte, chunk)}
	code := r.frames()
	r.deliver()
	s.end(code)
}

// frames reads to the end, and gives the exit code that belongs to it.
func (r *reader) frames() int {
	s := r.session
	for {
		have := r.to - r.from
		if have < 4 {
			if !r.more() {
				return r.truncated(have)
			}
			continue
		}
		length := int64(binary.BigEndian.Uint32(r.buffer[r.from:]))
		if length < lenMin || length > lenMax {
			// Judged by the length alone: the bytes after it may never come [F-5].
			fmt.Fprintf(os.Stderr, "stokehold: no frame begins with %q\n", r.buffer[r.from:clamp(r.to, 0, r.from+32)])
			return exitParentBroke
		}
		if have < headerBytes {
			if !r.more() {
				return r.truncated(have)
			}
			continue
		}
		id, size := binary.BigEndian.Uint32(r.buffer[r.from+4:]), int(length)-4
		if int(length) > s.maxFrame {
			r.from += headerBytes
			if !r.skip(size) {
				return r.truncated(1)
			}
			r.meta = nil
			r.refuse(id, refusal("too_large", fmt.Sprintf("a frame of %d bytes, the limit is %d", length, s.maxFrame)))
			continue
		}
		if have < headerBytes+size {
			if headerBytes+size <= len(r.buffer) {
				if !r.more() {
					return r.truncated(have)
				}
				continue
			}
			r.from += headerBytes
			body, isWhole := r.large(size)
			if !isWhole {
				return r.truncated(1)
			}
			r.message(id, body, true)
			continue
		}
		body := r.buffer[r.from+headerBytes : r.from+headerBytes+size]
		r.from += headerBytes + size
		r.message(id, body, false)
	}
}

func (r *reader) truncated(have int) int {
	if have == 0 {
		return 0
	}
	fmt.Fprintln(os.Stderr, "stokehold: the input ended inside a frame")
	return exitTruncated // [L-4]
}

// more reads on, behind what is there; false at the end.
func (r *reader) more() bool {
	r.deliver()
	if r.from > 0 {
		r.to = copy(r.buffer, r.buffer[r.from:r.to])
		r.from = 0
	}
	count := receive(r.session.source, r.buffer[r.to:])
	r.to += count
	return count > 0
}

// large reads a body that does not fit the buffer. It takes memory as bytes arrive, not as they were announced [F-11].
func (r *reader) large(size int) (body []byte, isWhole bool) {
	body = append(make([]byte, 0, 2*len(r.buffer)), r.buffer[r.from:r.to]...)
	r.from, r.to = 0, 0
	r.deliver()
	for len(body) < size {
		if len(body) == cap(body) {
			body = append(make([]byte, 0, clamp(2*cap(body), 0, size)), body...)
		}
		count := receive(r.session.source, body[len(body):clamp(cap(body), 0, size)])
		if count == 0 {
			return nil, false
		}
		body = body[:len(body)+count]
	}
	return body, true
}

// skip reads so many bytes and forgets them.
func (r *reader) skip(size int) bool {
	for {
		some := clamp(r.to-r.from, 0, size)
		r.from += some
		size -= some
		if size == 0 {
			return true
		}
		if !r.more() {
			return false
		}
	}
}

// message takes one message. The body is the reader's own, or its task's if it `isKept`.
func (r *reader) message(id uint32, body []byte, isKept bool) {
	told := r.meta
	r.meta = nil // META counts for the next frame only
	if at := len(r.head); at == 0 || len(body) <= at || !bytes.Equal(body[:at], r.head) {
		request, at, err := readHead(body)
		if err != nil {
			r.refuse(id, refusal("bad_message", err.Error())) // [M-13]
			return
		}
		r.head = append(r.head[:0], body[:at]...)
		r.headRequest = string(request)
		r.headHandler = r.session.worker.handlers[r.headRequest]
	}
	data := body[len(r.head):]
	if isProtocol(r.headRequest) && r.headRequest != "BATCH" {
		r.control(id, data)
		return
	}
	if id == 0 && r.headHandler == nil {
		return
	}
	if !isKept {
		data = append(make([]byte, 0, len(data)), data...)
	}
	task := &Task{session: r.session, id: id, request: r.headRequest, handler: r.headHandler, data: data}
	if told != nil && told.id == id {
		task.meta = told
	}
	if task.handler == nil && r.headRequest != "BATCH" {
		task.refusal, task.data = r.session.unknown(r.headRequest), nil
	}
	r.arrived = append(r.arrived, task)
}

// refuse answers a frame that cannot be a task, when its turn comes; one without an id is ignored.
func (r *reader) refuse(id uint32, failure *Failure) {
	if id != 0 {
		r.arrived = append(r.arrived, &Task{session: r.session, id: id, refusal: failure})
	}
}

// deliver puts into the queue what has arrived, and waits while too much is there.
func (r *reader) deliver() {
	if len(r.arrived) == 0 {
		return
	}
	s := r.session
	var refused []*Task
	s.mu.Lock()
	count := 0
	for n, task := range r.arrived {
		r.arrived[n] = nil
		if s.isEnded || task.id != 0 && s.open[task.id] != nil {
			continue // [S-6]
		}
		if s.unanswered >= s.window+overdraftMax {
			refused = append(refused, task)
			continue
		}
		if task.id != 0 {
			s.open[task.id] = task
		}
		s.unanswered++
		s.backlog += len(task.data)
		s.queue = append(s.queue, task)
		count++
	}
	r.arrived = r.arrived[:0]
	s.rouse(count)
	for s.backlog > s.backlogMax() && s.unanswered > 1 {
		s.room.Wait()
	}
	s.mu.Unlock()
	runtime.Gosched() // the hand that was roused runs on this thread at once, and waits for no other to wake up
	for _, task := range refused {
		if task.id == 0 {
			fmt.Fprintf(os.Stderr, "stokehold: a one-way request %q was dropped: too many wait here\n", task.request)
			continue
		}
		failure := refusal("overloaded", "too many tasks wait here")
		failure.Retry = true
		s.tell(task.id, "FAILED", reportOf(failure, "")) // [W-6]
	}
}

// control takes the protocol's own requests; those it does not know are ignored, and those it cannot read [D-18].
func (r *reader) control(id uint32, data []byte) {
	s := r.session
	if end, err := check(data, 0, depthMax); err != nil || end != len(data) {
		if r.headRequest != "DIE" {
			return
		}
		data = Raw{0xC0} // what is asked is clear
	}
	fields := func() map[string]any {
		value, _ := decodeAny(data, 0)
		found, _ := value.(map[string]any)
		return found
	}
	switch request := r.headRequest; {
	case id != 0 && request == "META":
		r.meta = newMeta(id, fields())
	case id != 0 && request == "CANCEL":
		r.deliver()
		s.mu.Lock()
		task := s.open[id]
		s.mu.Unlock()
		if task != nil {
			task.cancel()
		}
	case id != 0:
	case request == "PING" && len(data) <= pingBytesMax:
		r.deliver()
		s.tell(0, "PONG", Raw(data))
	case request == "HELLO" && !s.isGreeted:
		s.isGreeted = true
		s.greet(fields())
	case request == "DIE":
		if fields()["now"] == true {
			s.out.drop() // [L-3]
			s.out.exit(0)
		}
		r.deliver()
		s.end(0) // [L-2]; CANCEL and `now` are heard on
	}
}

func (s *session) greet(hello map[string]any) {
	p := *s.peer.Load()
	switch limit := hello["max_frame"].(type) { // [F-14]
	case int64:
		p.maxFrame = int(math.Max(maxFrameMin, math.Min(float64(limit), lenMax)))
	case uint64:
		p.maxFrame = lenMax
	}
	pid, _ := hello["pid"].(int64)
	parent, _ := hello["parent"].(int64)
	if pid < 1 || pid > addressMax {
		pid = int64(os.Getpid())
	}
	if parent < 1 || parent > addressMax {
		parent = 0
	}
	p.addresses = addresses(pid, parent)
	caps, _ := hello["caps"].([]any)
	for _, name := range caps {
		p.tellsStarts = p.tellsStarts || name == "started" && s.concurrency > 1
	}
	s.peer.Store(&p)
}

// ---- The connection ----

var connection struct {
	once         sync.Once
	source, sink int
}

// Guard moves the protocol away from standard input and output, so that nothing that prints can damage it. Serve does so first;
// call it yourself if something is printed before. It exits the process with status 2 if that was not started as a worker.
func Guard() {
	connection.once.Do(guard)
}

func guard() {
	transport, hasParent := os.LookupEnv("STOKEHOLD_IO")
	if !hasParent && isTerminal(0) {
		leave(exitWrongStart, "this program is a worker: a parent starts it and speaks the Stokehold protocol with it on standard "+
			"input and output; run it with: stokehold run -- "+strings.Join(os.Args, " "))
	}
	proto, hasProto := os.LookupEnv("STOKEHOLD_PROTO")
	codec, hasCodec := os.LookupEnv("STOKEHOLD_CODEC")
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "STOKEHOLD_") {
			os.Unsetenv(name)
		}
	}
	var err error
	connection.source, connection.sink, err = takeDescriptors(choose(hasParent, transport, "stdio"))
	if err != nil {
		leave(exitWrongStart, fmt.Sprintf("cannot use STOKEHOLD_IO=%s: %s", transport, err))
	}
	if hasParent && !signal.Ignored(os.Interrupt) {
		// The parent decides. Taken and not ignored, so that programs started here keep what is usual.
		signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	}
	refuseOffer(hasProto, proto, "1", "version", 1)
	refuseOffer(hasCodec, codec, "msgpack", "codec", "msgpack")
}

// refuseOffer ends the process if what this file speaks is not on offer [V-3].
func refuseOffer(isThere bool, offer, ours, code string, supported any) {
	for _, one := range strings.Split(offer, ",") {
		if !isThere || strings.TrimSpace(one) == ours {
			return
		}
	}
	message := fmt.Sprintf("the parent offers the %s %q, this worker has %s", code, cut(offer, 1_024), ours)
	var p packer
	from := &peer{addresses: addresses(int64(os.Getpid()), 0), maxFrame: maxFrameDefault}
	_ = p.frame(from, 0, "FAILED", pairs{{"code", code}, {"message", message}, {"data", pairs{{"supported", []any{supported}}}}})
	send(connection.sink, p.bytes)
	leave(exitIncompatible, message)
}

// takeDescriptors gives where to read and where to write. Both are closed when a program is started.
func takeDescriptors(transport string) (source, sink int, err error) {
	if transport == "stdio" {
		if isSame(1, 2) {
			// Started with 2>&1: what is said to people must not get between the frames either.
			if err := putNull(2); err != nil {
				return 0, 0, err
			}
		}
		if source, err = above2(0); err == nil {
			sink, err = above2(1)
		}
	} else {
		numbers := strings.Split(strings.TrimPrefix(transport, "fd:"), ",")
		if !strings.HasPrefix(transport, "fd:") || len(numbers) != 2 {
			return 0, 0, errors.New("it is neither stdio nor fd:R,W")
		}
		r, errR := strconv.ParseUint(numbers[0], 10, 31)
		w, errW := strconv.ParseUint(numbers[1], 10, 31)
		if errR != nil || errW != nil {
			return 0, 0, errors.New("it is neither stdio nor fd:R,W")
		}
		if source, err = above2(int(r)); err == nil {
			sink, err = above2(int(w))
		}
		if err == nil && (r > 1 && w > 1 || r == w) {
			syscall.CloseOnExec(int(r))
			syscall.CloseOnExec(int(w))
			return source, sink, nil
		}
	}
	if err == nil {
		err = putNull(0)
	}
	if err == nil {
		if err = syscall.Dup3(2, 1, 0); err == syscall.EBADF {
			err = putNull(1) // standard error is closed
		}
	}
	return source, sink, err
}

// above2 gives a copy of a descriptor that is closed when a program is started.
func above2(descriptor int) (int, error) {
	number, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(descriptor), syscall.F_DUPFD_CLOEXEC, 3)
	if errno != 0 {
		return 0, errno
	}
	return int(number), nil
}

func putNull(descriptor int) error {
	null, err := syscall.Open(os.DevNull, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(null)
	return syscall.Dup3(null, descriptor, 0)
}

func isTerminal(descriptor int) bool {
	var settings syscall.Termios
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(descriptor), syscall.TCGETS, uintptr(unsafe.Pointer(&settings)))
	return errno == 0
}

// isSame: two descriptors lead to one pipe, socket or file. (Devices do no harm, and at a terminal a person looks at both.)
func isSame(one, other int) bool {
	var a, b syscall.Stat_t
	if syscall.Fstat(one, &a) != nil || syscall.Fstat(other, &b) != nil {
		return false
	}
	return a.Dev == b.Dev && a.Ino == b.Ino && a.Mode&syscall.S_IFMT != syscall.S_IFCHR
}

func leave(code int, why string) {
	fmt.Fprintln(os.Stderr, "stokehold: "+why)
	os.Exit(code)
}

const (
	pollIn  = 1
	pollOut = 4
)

// await waits until a descriptor is ready for `events`; with none, until nobody is at its other end.
func await(descriptor int, events int16) {
	for {
		poll := struct {
			fd              int32
			events, revents int16
		}{fd: int32(descriptor), events: events}
		count, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, 0, 0, 0, 0)
		if errno == 0 && count > 0 || errno != 0 && errno != syscall.EINTR {
			return
		}
	}
}

// receive reads something; 0 at the end.
func receive(descriptor int, into []byte) int {
	for {
		count, err := syscall.Read(descriptor, into)
		switch err {
		case nil:
			return count
		case syscall.EINTR:
		case syscall.EAGAIN:
			await(descriptor, pollIn)
		default:
			leave(exitFailed, "the input cannot be read: "+err.Error())
		}
	}
}

// send writes everything, or ends the process if nobody reads it any more [L-5].
func send(descriptor int, bytes []byte) {
	for len(bytes) > 0 {
		count, err := syscall.Write(descriptor, bytes)
		switch err {
		case nil:
			bytes = bytes[count:]
		case syscall.EINTR:
		case syscall.EAGAIN:
			await(descriptor, pollOut)
		default:
			os.Exit(exitFailed)
		}
	}
}

// When a frame is written.
type urgency int

const (
	atOnce         urgency = iota
	mayWaitAMoment         // with others that come in the next moment
	untilFlushed           // with the next, and whoever adds it sees to that
)

// output collects frames, and writes many at once [W-9].
type output struct {
	fd        int
	mu        sync.Mutex // guards what follows
	held      []byte
	since     time.Time // when the first of them came, or the last write
	isArmed   bool
	isDropped bool
	isEnding  atomic.Bool // what remains is BYE, and a parent may go when it has read that
}

func (o *output) add(frame []byte, urgency urgency) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.isDropped {
		return
	}
	if len(frame) > heldBytes {
		o.write()
		send(o.fd, frame)
		o.since = time.Now()
		return
	}
	o.held = append(o.held, frame...)
	switch {
	case urgency == atOnce || len(o.held) > heldBytes:
		o.write()
	case urgency == mayWaitAMoment:
		o.settleLocked()
	}
}

func (o *output) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.write()
}

// settle lets what is held wait for no longer than a moment.
func (o *output) settle() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.settleLocked()
}

func (o *output) settleLocked() {
	if len(o.held) == 0 {
		return
	}
	if time.Since(o.since) > heldFor {
		o.write()
	} else if !o.isArmed {
		o.isArmed = true
		time.AfterFunc(heldFor, o.flushLate)
	}
}

func (o *output) flushLate() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.isArmed = false
	if time.Since(o.since) >= heldFor {
		o.write()
	} else {
		o.settleLocked()
	}
}

func (o *output) write() {
	if len(o.held) > 0 && !o.isDropped {
		send(o.fd, o.held)
		o.since = time.Now()
	}
	o.held = o.held[:0]
}

// drop lets nothing more be written; a frame that is being written gets a moment to become whole.
func (o *output) drop() {
	time.AfterFunc(time.Second, func() { os.Exit(0) })
	o.mu.Lock()
	o.isDropped = true
	o.mu.Unlock()
}

// exit ends the process, between two frames.
func (o *output) exit(code int) {
	o.mu.Lock()
	os.Exit(code)
}

// watch ends the process when nobody reads its output any more, whatever it does, or waits for [L-5].
func (o *output) watch() {
	await(o.fd, 0)
	if !o.isEnding.Load() {
		os.Exit(exitFailed)
	}
}

// ---- MessagePack ----

// Raw is one value as MessagePack. As a result, or part of one, it is sent as it is; in an input it takes any value.
type Raw []byte

// Decode puts the value into what `into` points to, as Typed describes.
func (r Raw) Decode(into any) error {
	end, err := check(r, 0, depthMax)
	if err == nil && end != len(r) {
		err = errors.New("bytes follow the value")
	}
	if err != nil {
		return badData("%s", err)
	}
	return decodeInto(r, into)
}

// pairs is a map whose keys keep their order.
type pairs []pair

type pair struct {
	key   string
	value any
}

func (p pairs) without(key string) pairs {
	var rest pairs
	for _, one := range p {
		if one.key != key {
			rest = append(rest, one)
		}
	}
	return rest
}

var packers = sync.Pool{New: func() any { return &packer{} }}

// A packer writes one frame.
type packer struct {
	bytes []byte
	limit int // of its bytes
}

// frame makes a whole frame. Its error is a Failure bad_data or too_large.
func (p *packer) frame(to *peer, id uint32, request string, value any) error {
	p.begin(to, id, request)
	if err := p.value(value, 0); err != nil {
		return err
	}
	p.finish()
	return nil
}

func (p *packer) begin(to *peer, id uint32, request string) {
	if cap(p.bytes) > 16*chunk {
		p.bytes = nil
	}
	p.limit = 4 + to.maxFrame
	p.bytes = append(p.bytes[:0], 0, 0, 0, 0, byte(id>>24), byte(id>>16), byte(id>>8), byte(id), 0x94,
		0xA0|byte(len(request)))
	p.bytes = append(p.bytes, request...)
	p.bytes = append(p.bytes, to.addresses...)
}

func (p *packer) finish() {
	binary.BigEndian.PutUint32(p.bytes, uint32(len(p.bytes)-4))
}

func (p *packer) put(bytes ...byte) {
	p.bytes = append(p.bytes, bytes...)
}

// room fails before a value is written that makes the frame too large.
func (p *packer) room(size int) error {
	if size > p.limit-len(p.bytes) {
		return &Failure{Code: "too_large", Message: fmt.Sprintf("the result is larger than the %d bytes that the parent takes", p.limit-4)}
	}
	return nil
}

// value writes a value inside so many arrays and maps, in its shortest form [D-8].
func (p *packer) value(value any, depth int) error {
	if err := p.room(1); err != nil {
		return err
	}
	switch value := value.(type) {
	case nil:
		p.put(0xC0)
	case string:
		return p.text(value)
	case int:
		p.integer(int64(value))
	case int64:
		p.integer(value)
	case float64:
		p.float(value)
	case bool:
		p.boolean(value)
	case []byte:
		return p.binary(value)
	case Raw:
		return p.raw(value, depth)
	case []any:
		if err := deeper(depth); err != nil {
			return err
		}
		p.length(len(value), 0x90, 16, 0, 0xDC, 0xDD)
		for _, item := range value {
			if err := p.value(item, depth+1); err != nil {
				return err
			}
		}
	case map[string]any:
		if err := deeper(depth); err != nil {
			return err
		}
		keys := make([]string, 0, 16)
		for key := range value {
			keys = append(keys, key)
		}
		p.length(len(keys), 0x80, 16, 0, 0xDE, 0xDF)
		sort.Strings(keys) // so that equal values are equal bytes
		for _, key := range keys {
			if err := p.entry(key, value[key], depth+1); err != nil {
				return err
			}
		}
	case pairs:
		if err := deeper(depth); err != nil {
			return err
		}
		p.length(len(value), 0x80, 16, 0, 0xDE, 0xDF)
		for _, one := range value {
			if err := p.entry(one.key, one.value, depth+1); err != nil {
				return err
			}
		}
	default:
		return p.reflected(reflect.ValueOf(value), depth)
	}
	return p.room(0)
}

func (p *packer) entry(key string, value any, depth int) error {
	if err := p.text(key); err != nil {
		return err
	}
	return p.value(value, depth)
}

func deeper(depth int) error {
	if depth == depthMax {
		return badData("the value is nested more than %d deep", depthMax) // [D-2]
	}
	return nil
}

func (p *packer) boolean(value bool) {
	p.put(choose[byte](value, 0xC3, 0xC2))
}

func (p *packer) float(value float64) {
	p.put(0xCB)
	p.bytes = binary.BigEndian.AppendUint64(p.bytes, math.Float64bits(value))
}

func (p *packer) integer(value int64) {
	switch {
	case value >= 0:
		p.unsigned(uint64(value))
	case value >= -32:
		p.put(byte(value))
	case value >= math.MinInt8:
		p.put(0xD0, byte(value))
	case value >= math.MinInt16:
		p.put(0xD1, byte(value>>8), byte(value))
	case value >= math.MinInt32:
		p.put(0xD2, byte(value>>24), byte(value>>16), byte(value>>8), byte(value))
	default:
		p.put(0xD3)
		p.bytes = binary.BigEndian.AppendUint64(p.bytes, uint64(value))
	}
}

func (p *packer) unsigned(value uint64) {
	switch {
	case value < 0x80:
		p.put(byte(value))
	case value <= math.MaxUint8:
		p.put(0xCC, byte(value))
	case value <= math.MaxUint16:
		p.put(0xCD, byte(value>>8), byte(value))
	case value <= math.MaxUint32:
		p.put(0xCE, byte(value>>24), byte(value>>16), byte(value>>8), byte(value))
	default:
		p.put(0xCF)
		p.bytes = binary.BigEndian.AppendUint64(p.bytes, value)
	}
}

// length writes the mark of a text, of bytes, an array or a map: below `few` one byte, else with one, two or four of length.
func (p *packer) length(size int, short byte, few int, mark8, mark16, mark32 byte) {
	switch {
	case size < few:
		p.put(short | byte(size))
	case size <= math.MaxUint8 && mark8 != 0:
		p.put(mark8, byte(size))
	case size <= math.MaxUint16:
		p.put(mark16, byte(size>>8), byte(size))
	default:
		p.put(mark32, byte(size>>24), byte(size>>16), byte(size>>8), byte(size))
	}
}

func (p *packer) text(text string) error {
	if err := p.room(len(text) + 1); err != nil {
		return err
	}
	if !utf8.ValidString(text) {
		return badData("a text is no UTF-8; bytes are sent as []byte") // [D-3]
	}
	p.length(len(text), 0xA0, 32, 0xD9, 0xDA, 0xDB)
	p.bytes = append(p.bytes, text...)
	return p.room(0)
}

func (p *packer) binary(value []byte) error {
	if err := p.room(len(value) + 2); err != nil {
		return err
	}
	p.length(len(value), 0, 0, 0xC4, 0xC5, 0xC6)
	p.bytes = append(p.bytes, value...)
	return p.room(0)
}

func (p *packer) raw(value Raw, depth int) error {
	if err := p.room(len(value)); err != nil {
		return err
	}
	if end, err := check(value, 0, depthMax-depth); err != nil {
		return badData("a Raw is no value: %s", err)
	} else if end != len(value) {
		return badData("a Raw is more than one value")
	}
	p.put(value...)
	return nil
}

var (
	rawType         = reflect.TypeOf(Raw(nil))
	textMarshaler   = reflect.TypeOf((*encoding.TextMarshaler)(nil)).Elem()
	textUnmarshaler = reflect.TypeOf((*encoding.TextUnmarshaler)(nil)).Elem()
)

// reflected writes what is of no type that `value` knows.
func (p *packer) reflected(v reflect.Value, depth int) error {
	for hops := 0; v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface; hops++ {
		if v.IsNil() {
			return p.value(nil, depth)
		}
		if v.Type().Implements(textMarshaler) {
			break
		}
		if hops > depthMax {
			return badData("pointers that lead nowhere cannot be sent")
		}
		v = v.Elem()
	}
	if v.Type().Implements(textMarshaler) && v.CanInterface() {
		text, err := v.Interface().(encoding.TextMarshaler).MarshalText()
		if err != nil {
			return badData("a %s cannot be sent: %s", v.Type(), words(err))
		}
		return p.text(string(text))
	}
	if v.Type() == rawType {
		return p.raw(v.Bytes(), depth)
	}
	switch v.Kind() {
	case reflect.Bool:
		p.boolean(v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		p.integer(v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		p.unsigned(v.Uint())
	case reflect.Float32, reflect.Float64:
		p.float(v.Float())
	case reflect.String:
		return p.text(v.String())
	case reflect.Slice, reflect.Array:
		return p.reflectedArray(v, depth)
	case reflect.Map:
		return p.reflectedMap(v, depth)
	case reflect.Struct:
		return p.reflectedStruct(v, depth)
	default:
		return badData("a %s cannot be sent", v.Type())
	}
	return p.room(0)
}

// item writes what is inside of a value.
func (p *packer) item(v reflect.Value, depth int) error {
	if err := p.room(1); err != nil {
		return err
	}
	return p.reflected(v, depth)
}

func (p *packer) reflectedArray(v reflect.Value, depth int) error {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		if v.Kind() == reflect.Slice {
			return p.binary(v.Bytes())
		}
		bytes := make([]byte, v.Len())
		reflect.Copy(reflect.ValueOf(bytes), v)
		return p.binary(bytes)
	}
	if err := deeper(depth); err != nil {
		return err
	}
	if v.Kind() == reflect.Slice {
		v = v.Slice(0, v.Len()) // as it is now: a method of what is in it may change it
	}
	p.length(v.Len(), 0x90, 16, 0, 0xDC, 0xDD)
	for n := 0; n < v.Len(); n++ {
		if err := p.item(v.Index(n), depth+1); err != nil {
			return err
		}
	}
	return p.room(0)
}

func (p *packer) reflectedMap(v reflect.Value, depth int) error {
	if v.Type().Key().Kind() != reflect.String {
		return badData("a %s cannot be sent: keys are texts", v.Type()) // [D-4]
	}
	if err := deeper(depth); err != nil {
		return err
	}
	keys := v.MapKeys()
	p.length(len(keys), 0x80, 16, 0, 0xDE, 0xDF)
	sort.Slice(keys, func(i, j int) bool { return keys[i].String() < keys[j].String() })
	for _, key := range keys {
		if err := p.text(key.String()); err != nil {
			return err
		}
		if err := p.item(v.MapIndex(key), depth+1); err != nil {
			return err
		}
	}
	return p.room(0)
}

func (p *packer) reflectedStruct(v reflect.Value, depth int) error {
	fields := fieldsOf(v.Type())
	if len(fields) == 0 && v.NumField() > 0 {
		return badData("a %s cannot be sent: it has no exported field", v.Type())
	}
	if err := deeper(depth); err != nil {
		return err
	}
	present := make([]field, 0, len(fields))
	for _, field := range fields {
		if !field.omitEmpty || !isEmpty(v.FieldByIndex(field.index)) {
			present = append(present, field)
		}
	}
	p.length(len(present), 0x80, 16, 0, 0xDE, 0xDF)
	for _, field := range present {
		if err := p.text(field.name); err != nil {
			return err
		}
		if err := p.item(v.FieldByIndex(field.index), depth+1); err != nil {
			return err
		}
	}
	return p.room(0)
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.Array, reflect.String:
		return v.Len() == 0
	}
	return v.IsZero()
}

// A field of a struct, and the key it has in a map.
type field struct {
	name      string
	index     []int
	omitEmpty bool
}

var knownFields sync.Map // of []field by reflect.Type

// fieldsOf gives the fields that are sent: those of embedded structs too, but not through a pointer.
func fieldsOf(t reflect.Type) []field {
	if known, ok := knownFields.Load(t); ok {
		return known.([]field)
	}
	var fields []field
	seen := map[string]bool{}
	for _, one := range reflect.VisibleFields(t) {
		tag, isTagged := one.Tag.Lookup("stokehold")
		if !isTagged {
			tag, isTagged = one.Tag.Lookup("json")
		}
		name, options, _ := strings.Cut(tag, ",")
		isInlined := one.Anonymous && name == "" && one.Type.Kind() == reflect.Struct
		if !one.IsExported() || isInlined || tag == "-" || isBehindPointer(t, one.Index) {
			continue
		}
		if name == "" {
			name = one.Name
		}
		if !seen[name] {
			seen[name] = true
			fields = append(fields, field{name, one.Index, strings.Contains(","+options+",", ",omitempty,")})
		}
	}
	known, _ := knownFields.LoadOrStore(t, fields)
	return known.([]field)
}

// isBehindPointer also finds what is inside an embedded struct that has a name of its own, or is left out.
func isBehindPointer(t reflect.Type, index []int) bool {
	for _, n := range index[:len(index)-1] {
		one := t.Field(n)
		tag, isTagged := one.Tag.Lookup("stokehold")
		if !isTagged {
			tag = one.Tag.Get("json")
		}
		if name, _, _ := strings.Cut(tag, ","); name != "" || one.Type.Kind() != reflect.Struct {
			return true
		}
		t = one.Type
	}
	return false
}

var errShort = errors.New("the bytes end before the value does")

// check gives the end of the value at `at`, or why there is none [D-1] to [D-7]. It takes no memory for a count, and stops
// where the bytes end [D-9]. `room` is how many levels may be nested.
func check(b []byte, at, room int) (int, error) {
	if at >= len(b) {
		return 0, errShort
	}
	mark := b[at]
	switch {
	case mark < 0x80, mark >= 0xE0, mark == 0xC0, mark == 0xC2, mark == 0xC3:
		return at + 1, nil
	case mark >= 0xCA && mark <= 0xD3:
		at += 1 + numberBytes[mark-0xCA]
		if at > len(b) {
			return 0, errShort
		}
		return at, nil
	case mark >= 0xA0 && mark <= 0xBF, mark >= 0xD9 && mark <= 0xDB:
		text, end, ok := textAt(b, at)
		if !ok {
			return 0, errShort
		}
		if !utf8.Valid(text) {
			return 0, errors.New("a text is no UTF-8")
		}
		return end, nil
	case mark >= 0xC4 && mark <= 0xC6:
		_, end, ok := bytesAt(b, at)
		if !ok {
			return 0, errShort
		}
		return end, nil
	case mark >= 0x90 && mark <= 0x9F, mark == 0xDC, mark == 0xDD:
		count, at, ok := sizeOf(b, at, 0x90, 0xDC)
		if !ok {
			return 0, errShort
		}
		if room == 0 {
			return 0, fmt.Errorf("nested more than %d deep", depthMax)
		}
		for ; count > 0; count-- {
			var err error
			if at, err = check(b, at, room-1); err != nil {
				return 0, err
			}
		}
		return at, nil
	case mark >= 0x80 && mark <= 0x8F, mark == 0xDE, mark == 0xDF:
		count, at, ok := sizeOf(b, at, 0x80, 0xDE)
		if !ok {
			return 0, errShort
		}
		if room == 0 {
			return 0, fmt.Errorf("nested more than %d deep", depthMax)
		}
		return checkEntries(b, at, room, count)
	}
	return 0, fmt.Errorf("no value begins with the byte 0x%02x", mark)
}

func checkEntries(b []byte, at, room int, count int64) (int, error) {
	var few [16][]byte
	var many map[string]struct{}
	for n := int64(0); n < count; n++ {
		if at >= len(b) {
			return 0, errShort
		}
		key, end, ok := textAt(b, at)
		if !ok {
			return 0, errors.New("a key is no text")
		}
		if !utf8.Valid(key) {
			return 0, errors.New("a key is no UTF-8")
		}
		isTwice := false
		if n < int64(len(few)) {
			for _, other := range few[:n] {
				isTwice = isTwice || bytes.Equal(other, key)
			}
			few[n] = key
		} else {
			if many == nil {
				many = map[string]struct{}{}
				for _, other := range few {
					many[string(other)] = struct{}{}
				}
			}
			_, isTwice = many[string(key)]
			many[string(key)] = struct{}{}
		}
		if isTwice {
			return 0, fmt.Errorf("the key %q is there twice", cut(string(key), 64))
		}
		var err error
		if at, err = check(b, end, room-1); err != nil {
			return 0, err
		}
	}
	return at, nil
}

// The bytes behind the marks 0xCA to 0xD3.
var numberBytes = [10]int{4, 8, 1, 2, 4, 8, 1, 2, 4, 8}

// readHead gives the request, and where the data begins [M-1] to [M-7].
func readHead(body []byte) (request []byte, at int, err error) {
	count, at, ok := sizeOf(body, 0, 0x90, 0xDC)
	if !ok || count != 4 {
		return nil, 0, errors.New("the message is no array of four")
	}
	request, at, ok = textAt(body, at)
	if !ok || len(request) == 0 || len(request) > requestBytesMax || !utf8.Valid(request) {
		return nil, 0, errors.New("the request is no text of 1 to 255 bytes")
	}
	sender, at, ok := numberAt(body, at)
	if !ok || sender.kind != signed || sender.i < 0 || sender.i > addressMax {
		return nil, 0, errors.New("the sender is no address")
	}
	if at < len(body) && body[at] == 0xC0 {
		at++
	} else {
		var recipient number
		recipient, at, ok = numberAt(body, at)
		if !ok || recipient.kind != signed || recipient.i < -1 || recipient.i == 0 || recipient.i > addressMax {
			return nil, 0, errors.New("the recipient is no address")
		}
	}
	if at >= len(body) {
		return nil, 0, errors.New("there is no data")
	}
	return request, at, nil
}

// bigEndian reads a number of so many bytes.
func bigEndian(b []byte, at, width int) (value uint64, ok bool) {
	if len(b)-at < width {
		return 0, false
	}
	for _, one := range b[at : at+width] {
		value = value<<8 | uint64(one)
	}
	return value, true
}

// sizeOf reads the mark of an array (0x90, 0xDC) or a map (0x80, 0xDE): the count, and where the first entry is.
func sizeOf(b []byte, at int, short, mark16 byte) (count int64, end int, ok bool) {
	if at >= len(b) {
		return 0, at, false
	}
	switch mark := b[at]; {
	case mark&0xF0 == short:
		return int64(mark & 15), at + 1, true
	case mark == mark16 || mark == mark16+1:
		width := choose(mark == mark16, 2, 4)
		size, ok := bigEndian(b, at+1, width)
		return int64(size), at + 1 + width, ok
	}
	return 0, at, false
}

func textAt(b []byte, at int) (text []byte, end int, ok bool) {
	if at < len(b) && b[at]&0xE0 == 0xA0 {
		return piece(b, at+1, uint64(b[at]&31))
	}
	return sized(b, at, 0xD9)
}

func bytesAt(b []byte, at int) (bytes []byte, end int, ok bool) {
	return sized(b, at, 0xC4)
}

// sized reads what has a length of 1, 2 or 4 bytes behind the mark, `mark8` and the next two.
func sized(b []byte, at int, mark8 byte) (content []byte, end int, ok bool) {
	if at >= len(b) || b[at] < mark8 || b[at] > mark8+2 {
		return nil, at, false
	}
	width := 1 << (b[at] - mark8)
	size, ok := bigEndian(b, at+1, width)
	if !ok {
		return nil, at, false
	}
	return piece(b, at+1+width, size)
}

func piece(b []byte, at int, size uint64) (content []byte, end int, ok bool) {
	if size > uint64(len(b)-at) {
		return nil, at, false
	}
	end = at + int(size)
	return b[at:end:end], end, true
}

// A number is an integer that fits 64 bits with a sign, one that needs them without, or a float.
type number struct {
	kind kind
	i    int64
	u    uint64
	f    float64
}

type kind int

const (
	signed kind = iota
	unsigned
	float
)

func (n number) any() any {
	switch n.kind {
	case signed:
		return n.i
	case unsigned:
		return n.u
	}
	return n.f
}

func numberAt(b []byte, at int) (n number, end int, ok bool) {
	if at >= len(b) {
		return n, at, false
	}
	mark := b[at]
	if mark < 0x80 || mark >= 0xE0 {
		return number{i: int64(int8(mark))}, at + 1, true
	}
	if mark < 0xCA || mark > 0xD3 {
		return n, at, false
	}
	width := numberBytes[mark-0xCA]
	bits, ok := bigEndian(b, at+1, width)
	if !ok {
		return n, at, false
	}
	end = at + 1 + width
	switch {
	case mark == 0xCA:
		return number{kind: float, f: float64(math.Float32frombits(uint32(bits)))}, end, true
	case mark == 0xCB:
		return number{kind: float, f: math.Float64frombits(bits)}, end, true
	case mark >= 0xD0:
		unused := 64 - 8*width
		return number{i: int64(bits<<unused) >> unused}, end, true
	case bits > math.MaxInt64:
		return number{kind: unsigned, u: bits}, end, true
	}
	return number{i: int64(bits)}, end, true
}

// decodeAny gives a value that was checked, and where it ends.
func decodeAny(b []byte, at int) (any, int) {
	switch mark := b[at]; {
	case mark == 0xC0:
		return nil, at + 1
	case mark == 0xC2, mark == 0xC3:
		return mark == 0xC3, at + 1
	}
	if text, end, ok := textAt(b, at); ok {
		return string(text), end
	}
	if n, end, ok := numberAt(b, at); ok {
		return n.any(), end
	}
	if bytes, end, ok := bytesAt(b, at); ok {
		return bytes, end
	}
	if count, at, ok := sizeOf(b, at, 0x90, 0xDC); ok {
		values := make([]any, count)
		for n := range values {
			values[n], at = decodeAny(b, at)
		}
		return values, at
	}
	count, at, _ := sizeOf(b, at, 0x80, 0xDE)
	entries := make(map[string]any, count)
	for ; count > 0; count-- {
		key, end, _ := textAt(b, at)
		entries[string(key)], at = decodeAny(b, end)
	}
	return entries, at
}

// decodeInto puts a value that was checked into what a pointer points to.
func decodeInto(data []byte, into any) (err error) {
	pointer := reflect.ValueOf(into)
	if pointer.Kind() != reflect.Pointer || pointer.IsNil() {
		return errors.New("stokehold: Decode needs a pointer to put the value into")
	}
	if anything, ok := into.(*any); ok {
		*anything, _ = decodeAny(data, 0)
		return nil
	}
	_, err = decodeValue(data, 0, pointer.Elem())
	return err
}

// decodeValue gives where the value ends.
func decodeValue(b []byte, at int, v reflect.Value) (int, error) {
	if v.Type() == rawType {
		end, _ := check(b, at, depthMax+2)
		v.SetBytes(b[at:end:end])
		return end, nil
	}
	if b[at] == 0xC0 {
		switch v.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
			v.Set(reflect.Zero(v.Type()))
			return at + 1, nil
		}
		return at, unfit(b, at, v)
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return decodeValue(b, at, v.Elem())
	}
	if text, end, ok := textAt(b, at); ok {
		return end, decodeText(b, at, text, v)
	}
	if n, end, ok := numberAt(b, at); ok {
		return end, decodeNumber(b, at, n, v)
	}
	if v.Kind() == reflect.Interface && v.NumMethod() == 0 {
		value, end := decodeAny(b, at)
		v.Set(reflect.ValueOf(value))
		return end, nil
	}
	if bytes, end, ok := bytesAt(b, at); ok {
		return end, decodeBytes(b, at, bytes, v)
	}
	if mark := b[at]; mark == 0xC2 || mark == 0xC3 {
		if v.Kind() != reflect.Bool {
			return at, unfit(b, at, v)
		}
		v.SetBool(mark == 0xC3)
		return at + 1, nil
	}
	if count, first, ok := sizeOf(b, at, 0x90, 0xDC); ok {
		if v.Kind() == reflect.Array && count == int64(v.Len()) {
			return decodeItems(b, first, v)
		}
		if v.Kind() != reflect.Slice {
			return at, unfit(b, at, v)
		}
		return decodeSlice(b, first, int(count), v)
	}
	count, first, _ := sizeOf(b, at, 0x80, 0xDE)
	switch {
	case v.Kind() == reflect.Struct:
		return decodeStruct(b, first, count, v)
	case v.Kind() == reflect.Map && v.Type().Key().Kind() == reflect.String:
		return decodeMap(b, first, count, v)
	}
	return at, unfit(b, at, v)
}

func decodeText(b []byte, at int, text []byte, v reflect.Value) error {
	if v.CanAddr() && v.Addr().Type().Implements(textUnmarshaler) && v.Addr().CanInterface() {
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText(text); err != nil {
			return badData("no %s: %s", v.Type(), words(err))
		}
		return nil
	}
	switch {
	case v.Kind() == reflect.String:
		v.SetString(string(text))
	case v.Kind() == reflect.Interface && v.NumMethod() == 0:
		v.Set(reflect.ValueOf(string(text)))
	default:
		return unfit(b, at, v)
	}
	return nil
}

// decodeNumber never rounds an integer, and never wraps one [D-12]; a float may be written as an integer [D-11].
func decodeNumber(b []byte, at int, n number, v reflect.Value) error {
	ok := false
	switch v.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if ok = n.kind == signed && !v.OverflowInt(n.i); ok {
			v.SetInt(n.i)
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		if n.kind == signed && n.i >= 0 {
			n = number{kind: unsigned, u: uint64(n.i)}
		}
		if ok = n.kind == unsigned && !v.OverflowUint(n.u); ok {
			v.SetUint(n.u)
		}
	case reflect.Float32, reflect.Float64:
		switch n.kind {
		case float:
			ok = !v.OverflowFloat(n.f)
		case signed:
			n.f = float64(n.i)
			ok = n.i >= -1<<53 && n.i <= 1<<53
		case unsigned:
			n.f = float64(n.u)
			ok = n.u&0x7FF == 0
		}
		if ok {
			v.SetFloat(n.f)
		}
	case reflect.Interface:
		if ok = v.NumMethod() == 0; ok {
			v.Set(reflect.ValueOf(n.any()))
		}
	}
	if !ok {
		return unfit(b, at, v)
	}
	return nil
}

func decodeBytes(b []byte, at int, bytes []byte, v reflect.Value) error {
	switch {
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		v.SetBytes(bytes)
	case v.Kind() == reflect.Array && v.Type().Elem().Kind() == reflect.Uint8 && v.Len() == len(bytes):
		reflect.Copy(v, reflect.ValueOf(bytes))
	default:
		return unfit(b, at, v)
	}
	return nil
}

func decodeSlice(b []byte, at, count int, v reflect.Value) (int, error) {
	// Each item has a byte at least, but in Go it may be large: memory is taken as they are read.
	slice := reflect.MakeSlice(v.Type(), 0, clamp(count, 0, 1_024))
	zero := reflect.Zero(v.Type().Elem())
	for n := 0; n < count; n++ {
		slice = reflect.Append(slice, zero)
		var err error
		if at, err = decodeValue(b, at, slice.Index(n)); err != nil {
			return at, within(strconv.Itoa(n), err)
		}
	}
	v.Set(slice)
	return at, nil
}

func decodeItems(b []byte, at int, v reflect.Value) (int, error) {
	for n := 0; n < v.Len(); n++ {
		var err error
		if at, err = decodeValue(b, at, v.Index(n)); err != nil {
			return at, within(strconv.Itoa(n), err)
		}
	}
	return at, nil
}

func decodeMap(b []byte, at int, count int64, v reflect.Value) (int, error) {
	entries := reflect.MakeMap(v.Type())
	for ; count > 0; count-- {
		key, end, _ := textAt(b, at)
		value := reflect.New(v.Type().Elem()).Elem()
		var err error
		if at, err = decodeValue(b, end, value); err != nil {
			return at, within(string(key), err)
		}
		entries.SetMapIndex(reflect.ValueOf(string(key)).Convert(v.Type().Key()), value)
	}
	v.Set(entries)
	return at, nil
}

func decodeStruct(b []byte, at int, count int64, v reflect.Value) (int, error) {
	fields := fieldsOf(v.Type())
	for ; count > 0; count-- {
		key, end, _ := textAt(b, at)
		at = end
		isKnown := false
		for _, field := range fields {
			if field.name != string(key) {
				continue
			}
			isKnown = true
			var err error
			if at, err = decodeValue(b, at, v.FieldByIndex(field.index)); err != nil {
				return at, within(field.name, err)
			}
			break
		}
		if !isKnown {
			at, _ = check(b, at, depthMax+2)
		}
	}
	return at, nil
}

// unfit: a value of another kind than is needed, or a number out of range.
func unfit(b []byte, at int, v reflect.Value) error {
	what := "a map"
	if n, _, ok := numberAt(b, at); ok {
		what = fmt.Sprint("the number ", n.any())
	} else if _, _, ok := textAt(b, at); ok {
		what = "a text"
	} else if _, _, ok := bytesAt(b, at); ok {
		what = "bytes"
	} else if _, _, ok := sizeOf(b, at, 0x90, 0xDC); ok {
		what = "an array"
	} else if b[at] == 0xC0 {
		what = "nil"
	} else if b[at] == 0xC2 || b[at] == 0xC3 {
		what = "a boolean"
	}
	return badData("%s does not fit %s", what, v.Type())
}

// within says where in the input it was.
func within(name string, err error) error {
	failure, ok := find[*Failure](err)
	if !ok {
		return err
	}
	return badData("%s: %s", cut(name, 64), failure.Message)
}

// ---- Small things that Go 1.19 lacks ----

func choose[T any](condition bool, yes, no T) T {
	if condition {
		return yes
	}
	return no
}

func clamp(value, low, high int) int {
	if value > high {
		value = high
	}
	if value < low {
		value = low
	}
	return value
}
