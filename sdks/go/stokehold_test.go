package stokehold

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

func encoded(t *testing.T, value any) []byte {
	t.Helper()
	p := packer{limit: lenMax}
	if err := p.value(value, 0); err != nil {
		t.Fatalf("%#v: %v", value, err)
	}
	return p.bytes
}

type inner struct {
	Depth int `json:"depth"`
}

type outer struct {
	inner
	Name    string             `stokehold:"name" json:"other"`
	Empty   string             `json:"empty,omitempty"`
	Left    string             `json:"-"`
	Data    []byte             `stokehold:"data"`
	Float   float64            `stokehold:"float"`
	List    []uint16           `stokehold:"list"`
	Map     map[string]float32 `stokehold:"map"`
	Pointer *inner             `stokehold:"pointer"`
	Any     any                `stokehold:"any"`
	Raw     Raw                `stokehold:"raw"`
	Pair    [2]bool            `stokehold:"pair"`
	IP      net.IP             `stokehold:"ip"`
	hidden  int
}

func TestAStructComesBackAsItWent(t *testing.T) {
	sent := outer{
		inner: inner{7}, Name: "ü", Data: []byte{0, 0xFF}, Float: 1.5, List: []uint16{1, 65535}, Map: map[string]float32{"a": 0.5},
		Pointer: &inner{8}, Any: []any{nil, true, int64(-1), uint64(math.MaxUint64), "x"}, Raw: Raw{0x93, 1, 2, 3},
		Pair: [2]bool{true, false}, IP: net.IPv4(127, 0, 0, 1),
	}
	data := encoded(t, sent)
	if end, err := check(data, 0, depthMax); err != nil || end != len(data) {
		t.Fatal(end, err)
	}
	var got outer
	if err := Raw(data).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(sent, got) {
		t.Fatalf("%+v\n%+v", sent, got)
	}
	keys, _ := decodeAny(data, 0)
	for _, absent := range []string{"empty", "Left", "hidden", "inner", "other"} {
		if _, ok := keys.(map[string]any)[absent]; ok {
			t.Errorf("the key %q is there", absent)
		}
	}
	if keys.(map[string]any)["ip"] != "127.0.0.1" || keys.(map[string]any)["depth"] != int64(7) {
		t.Error(keys)
	}
}

func TestNumbersAreNeitherRoundedNorWrapped(t *testing.T) {
	for _, one := range []struct {
		value any
		into  any
		fits  bool
	}{
		{255, new(uint8), true}, {256, new(uint8), false}, {-1, new(uint), false}, {-128, new(int8), true},
		{-129, new(int8), false}, {uint64(math.MaxUint64), new(uint64), true}, {uint64(1 << 63), new(int64), false},
		{1 << 53, new(float64), true}, {1<<53 + 1, new(float64), false}, {1.0, new(int), false}, {3, new(float32), true},
		{1e300, new(float32), false}, {nil, new(int), false}, {nil, new(*int), true}, {"1", new(int), false},
		{true, new(string), false}, {[]int{1}, new([2]int), false}, {map[string]int{"a": 1}, new(struct{ A string }), true},
		{map[string]int{"A": 1}, new(struct{ A string }), false},
	} {
		err := Raw(encoded(t, one.value)).Decode(one.into)
		var failure *Failure
		if (err == nil) != one.fits || err != nil && (!errors.As(err, &failure) || failure.Code != "bad_data") {
			t.Errorf("%v into %T: %v", one.value, one.into, err)
		}
	}
}

func TestWhatIsNoValueIsRefused(t *testing.T) {
	type loop struct{ Next *loop }
	ring := &loop{}
	ring.Next = ring
	deep := any(nil)
	for n := 0; n < depthMax+1; n++ {
		deep = []any{deep}
	}
	for _, value := range []any{func() {}, make(chan int), complex(1, 1), map[int]int{1: 2}, "\xFF", map[string]any{"\xFF": 1},
		ring, deep, Raw{}, Raw{1, 2}, Raw{0xC1}, struct{ hidden int }{1}, []any{errors.New("x")}} {
		p := packer{limit: lenMax}
		var failure *Failure
		if err := p.value(value, 0); !errors.As(err, &failure) || failure.Code != "bad_data" {
			t.Errorf("%T: %v", value, err)
		}
	}
	encoded(t, deep.([]any)[0])
	p := packer{limit: 1_000}
	var failure *Failure
	if err := p.value(make([]any, 1<<20), 0); !errors.As(err, &failure) || failure.Code != "too_large" || len(p.bytes) > 1_100 {
		t.Error(err, len(p.bytes))
	}
}

func TestDeclaredCountsTakeNoMemory(t *testing.T) {
	for _, data := range []Raw{{0xDD, 0xFF, 0xFF, 0xFF, 0xFF, 1}, {0xDF, 0xFF, 0xFF, 0xFF, 0xFF}, {0xC6, 0xFF, 0xFF, 0xFF, 0xFF},
		{0xDB, 0xFF, 0xFF, 0xFF, 0xFF, 'a'}} {
		var into any
		allocated := testing.AllocsPerRun(10, func() {
			if data.Decode(&into) == nil {
				t.Error("taken")
			}
		})
		if allocated > 10 {
			t.Error(allocated)
		}
	}
}

func TestAReportHasCodeCausesAndCutTexts(t *testing.T) {
	cause := &Failure{Code: "acme.full", Message: strings.Repeat("ü", 20_000), Retry: true, After: time.Millisecond * 3 / 2, Err: io.EOF}
	report := map[string]any{}
	for _, one := range reportOf(fmt.Errorf("wrapped: %w", cause), "") {
		report[one.key] = one.value
	}
	if report["code"] != "acme.full" || report["retry"] != true || report["after_ms"] != int64(2) {
		t.Error(report)
	}
	if message := report["message"].(string); len(message) > messageBytes || !strings.HasPrefix(message, "wrapped: ü") {
		t.Error(len(message))
	}
	if chain := report["chain"].([]any); len(chain) != 2 || chain[1] != "EOF" {
		t.Error(chain)
	}
	encoded(t, reportOf(errors.New("\xFF"), "\xFF"))
	for code, want := range map[string]string{"": "error", "timeout": "error", "bad_data": "bad_data", "mine": "error", "a.b": "a.b"} {
		if got := reportOf(&Failure{Code: code}, "")[0].value; got != want {
			t.Errorf("%q became %q", code, got)
		}
	}
	var none *Failure
	encoded(t, reportOf(none, "")) // an error whose methods panic
}

// pipe gives a descriptor to read, which does not wait, and an output that writes to it.
func pipe(t *testing.T) (*os.File, *output) {
	var ends [2]int
	if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if err := syscall.SetNonblock(ends[0], true); err != nil {
		t.Fatal(err)
	}
	source := os.NewFile(uintptr(ends[0]), "pipe")
	t.Cleanup(func() {
		source.Close()
		syscall.Close(ends[1])
	})
	return source, &output{fd: ends[1]}
}

func TestManySmallFramesAreOneWriteAndNoneWaitsForLong(t *testing.T) {
	source, out := pipe(t)
	frame := bytes.Repeat([]byte{'a'}, 20)
	read := func() int {
		into := make([]byte, 1<<16)
		source.SetReadDeadline(time.Now().Add(5 * time.Second))
		count, err := source.Read(into)
		if err != nil {
			t.Fatal(err)
		}
		return count
	}
	for n := 0; n < 100; n++ {
		out.add(frame, untilFlushed)
	}
	out.flush()
	if count := read(); count != 2_000 {
		t.Errorf("one write would have 2,000 bytes, not %d", count)
	}
	out.add(frame, untilFlushed)
	out.mu.Lock()
	out.since = time.Now().Add(time.Hour) // the last write was just now, however slow this machine is
	out.settleLocked()
	if len(out.held) != 20 {
		t.Error("it was written at once")
	}
	out.since = time.Time{}
	out.mu.Unlock()
	if count := read(); count != 20 { // by the timer
		t.Error(count)
	}
	out.add(frame, untilFlushed)
	out.add(frame, atOnce)
	if count := read(); count != 40 {
		t.Error(count)
	}
}

// A ring is an error that is behind itself, directly or by another one.
type ring struct{ next *ring }

func (r *ring) Error() string { return "ring" }
func (r *ring) Unwrap() error { return r.next }

// An endless is an error with another one behind it each time.
type endless struct{ depth int }

func (e endless) Error() string { return "endless" }
func (e endless) Unwrap() error { return endless{e.depth + 1} }

// A wide is an error with itself behind it, twice.
type wide struct{ wides }

func (w wide) Error() string { return "wide" }

// Its Unwrap is here because the `vet` of Go before 1.20 knows no such method of errors.
type wides struct{}

func (w wides) Unwrap() []error { return []error{wide{}, wide{}} }

// A posing is an error that says to be any other.
type posing struct{ target error }

func (p posing) Error() string { return "posing" }
func (p posing) As(target any) bool {
	if into, ok := target.(**Failure); ok {
		*into = &Failure{Code: "acme.posing"}
		return true
	}
	return false
}
func (p posing) Is(target error) bool { return target == p.target }

func TestErrorsThatAreBehindThemselvesAreReported(t *testing.T) {
	loop := &ring{}
	loop.next = loop
	longer := &ring{&ring{}}
	longer.next.next = longer
	for _, err := range []error{loop, longer, endless{}, wide{}} {
		said := make(chan pairs, 1)
		go func() { said <- reportOf(err, "") }()
		select {
		case report := <-said:
			if report[0].value != "error" {
				t.Errorf("%T: %v", err, report)
			}
			encoded(t, report)
		case <-time.After(10 * time.Second):
			t.Fatalf("%T: it hangs", err)
		}
	}
	for code, err := range map[string]error{
		"acme.a": twice{two{io.EOF, fmt.Errorf("wrapped: %w", &Failure{Code: "acme.a"})}}, "acme.posing": fmt.Errorf("wrapped: %w", posing{}),
		"cancelled": twice{two{io.EOF, context.Canceled}}, "error": posing{io.EOF},
	} {
		if code == "error" {
			if isCancellation(err) {
				t.Error("it is no cancellation")
			}
		} else if got := reportOf(err, "")[0].value; got != code {
			t.Errorf("%v instead of %s", got, code)
		}
	}
	if !isCancellation(posing{context.Canceled}) {
		t.Error("it is a cancellation")
	}
}

// A twice has two errors behind it, as those of errors.Join have.
type twice struct{ two }

func (t twice) Error() string { return "twice" }

type two [2]error

func (t two) Unwrap() []error { return t[:] }

func TestWhatIsLargeInLittleMemoryIsGivenUpEarly(t *testing.T) {
	value, typed := any([]any{1}), any([]int{1})
	mapped := any(map[string]any{"": 1})
	for level := 0; level < 40; level++ {
		value, typed, mapped = []any{value, value}, [2]any{typed, typed}, map[string]any{"a": mapped, "b": mapped}
	}
	for _, value := range []any{value, typed, mapped} {
		p := packer{limit: 1 << 20}
		var failure *Failure
		if err := p.value(value, 0); !errors.As(err, &failure) || failure.Code != "too_large" || len(p.bytes) > 1<<20+9 {
			t.Error(err, len(p.bytes))
		}
	}
}

func TestEmptyKeysAndNegativeZeroComeBack(t *testing.T) {
	data := encoded(t, map[string]any{"": map[string]any{"": math.Copysign(0, -1)}})
	got, _ := decodeAny(data, 0)
	zero, ok := got.(map[string]any)[""].(map[string]any)[""].(float64)
	if !ok || zero != 0 || !math.Signbit(zero) {
		t.Error(got)
	}
}
