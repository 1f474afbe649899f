// The worker that the conformance kit examines: every request of sdks/TESTEE.md shows one thing that the SDK does.
// Options: `concurrency=4`, `window=64`, `max_frame=65536`.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	stokehold "github.com/stokehold/stokehold/sdks/go"
)

type task = stokehold.Task

type fail struct {
	Code    string `stokehold:"code"`
	Message string `stokehold:"message"`
	Retry   bool   `stokehold:"retry"`
	AfterMs int64  `stokehold:"after_ms"`
	Data    any    `stokehold:"data"`
}

type millis struct {
	Ms int64 `stokehold:"ms"`
}

type items struct {
	N    int64 `stokehold:"n"`
	Size *int  `stokehold:"size"`
}

type big struct {
	Bytes int `stokehold:"bytes"`
}

type words struct {
	Text string `stokehold:"text"`
	How  string `stokehold:"how"`
}

type exit struct {
	Code int `stokehold:"code"`
}

type line struct {
	Level string `stokehold:"level"`
	Msg   string `stokehold:"msg"`
}

type meta struct {
	Attempt    int     `stokehold:"attempt"`
	Key        *string `stokehold:"key"`
	DeadlineMs *int64  `stokehold:"deadline_ms"`
}

type process struct {
	Pid int `stokehold:"pid"`
}

func main() {
	var worker stokehold.Worker
	for _, argument := range os.Args[1:] {
		name, value, _ := strings.Cut(argument, "=")
		number, err := strconv.Atoi(value)
		switch {
		case err != nil:
			fmt.Fprintf(os.Stderr, "no number: %s\n", argument)
			os.Exit(2)
		case name == "concurrency":
			worker.Concurrency = number
		case name == "window":
			worker.Window = number
		default:
			worker.MaxFrame = number
		}
	}
	echo := func(task *task) (any, error) { return task.Input(), nil }
	worker.Handle("DO", echo)
	worker.Handle("test.echo", echo)
	worker.Handle("test.fail", stokehold.Typed(fails))
	worker.Handle("test.raise", stokehold.Typed(func(_ *task, text string) (any, error) { return nil, errors.New(text) }))
	worker.Handle("test.bad_result", func(*task) (any, error) { return func() {}, nil })
	worker.Handle("test.sleep", stokehold.Typed(sleep))
	worker.Handle("test.spin", stokehold.Typed(spin))
	worker.Handle("test.items", stokehold.Typed(give))
	worker.Handle("test.big", stokehold.Typed(func(_ *task, in big) ([]byte, error) { return filled(in.Bytes), nil }))
	worker.Handle("test.print", stokehold.Typed(show))
	worker.Handle("test.stdin", stokehold.Typed(read))
	worker.Handle("test.spawn", stokehold.Typed(spawn))
	worker.Handle("test.exit", stokehold.Typed(func(_ *task, in exit) (any, error) {
		os.Exit(in.Code)
		return nil, nil
	}))
	worker.Handle("test.log", stokehold.Typed(func(task *task, in line) (any, error) {
		task.Log(in.Level, in.Msg)
		return nil, nil
	}))
	worker.Handle("test.progress", stokehold.Typed(func(task *task, in items) (any, error) {
		for done := int64(1); done <= in.N; done++ {
			task.Progress(done, in.N, "")
		}
		return nil, nil
	}))
	worker.Handle("test.meta", func(task *task) (any, error) { return metaOf(task), nil })
	worker.Handle("test.env", func(*task) (any, error) {
		names := []string{}
		for _, entry := range os.Environ() {
			if strings.HasPrefix(entry, "STOKEHOLD_") {
				names = append(names, entry)
			}
		}
		return names, nil
	})
	worker.Handle("test.pid", func(*task) (any, error) { return process{os.Getpid()}, nil })
	// Not of sdks/TESTEE.md: what only this language has.
	worker.Handle("test.panic", stokehold.Typed(func(_ *task, text string) (any, error) { panic(text) }))
	worker.Handle("test.wrap", stokehold.Typed(func(_ *task, text string) (any, error) {
		return nil, fmt.Errorf("while it worked: %w", &stokehold.Failure{Code: "acme.full", Message: text, Err: io.EOF})
	}))
	worker.Handle("test.goexit", goexit)
	worker.Serve()
}

func fails(_ *task, in *fail) (any, error) {
	if in == nil {
		in = &fail{}
	}
	return nil, &stokehold.Failure{
		Code: in.Code, Message: in.Message, Retry: in.Retry, After: time.Duration(in.AfterMs) * time.Millisecond, Data: in.Data,
	}
}

func sleep(task *task, in millis) (int64, error) {
	select {
	case <-time.After(time.Duration(in.Ms) * time.Millisecond):
		return in.Ms, nil
	case <-task.Context().Done():
		if task.Cancelled() {
			return 0, task.Context().Err()
		}
	}
	// The deadline of the task: the parent's business.
	time.Sleep(time.Duration(in.Ms) * time.Millisecond)
	return in.Ms, nil
}

func spin(_ *task, in millis) (int64, error) {
	for end := time.Now().Add(time.Duration(in.Ms) * time.Millisecond); time.Now().Before(end); {
	}
	return in.Ms, nil
}

func give(task *task, in items) (int64, error) {
	for n := int64(0); n < in.N; n++ {
		var item any = n
		if in.Size != nil {
			item = filled(*in.Size)
		}
		if err := task.Item(item); err != nil {
			return 0, err
		}
	}
	return in.N, nil
}

func filled(size int) []byte {
	return bytes.Repeat([]byte("a"), size)
}

func show(_ *task, in words) (any, error) {
	switch in.How {
	case "print":
		fmt.Println(in.Text)
	case "raw":
		for rest := []byte(in.Text + "\n"); len(rest) > 0; {
			count, err := syscall.Write(1, rest)
			if err != nil {
				return nil, err
			}
			rest = rest[count:]
		}
	default:
		// Through its input, because an argument cannot have a NUL. 1 is the descriptor itself.
		cat := exec.Command("cat")
		cat.Stdin, cat.Stdout = strings.NewReader(in.Text+"\n"), os.Stdout
		return nil, cat.Run()
	}
	return nil, nil
}

func read(_ *task, in words) (int, error) {
	if in.How == "read" {
		input, err := io.ReadAll(os.Stdin)
		return len(input), err
	}
	cat := exec.Command("cat")
	cat.Stdin = os.Stdin
	output, err := cat.Output()
	return len(output), err
}

func spawn(_ *task, in millis) (int, error) {
	sleep := exec.Command("sleep", strconv.FormatFloat(float64(in.Ms)/1000, 'f', 3, 64))
	sleep.Stdin, sleep.Stdout, sleep.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := sleep.Start(); err != nil {
		return 0, err
	}
	go sleep.Wait()
	return sleep.Process.Pid, nil
}

func metaOf(task *task) meta {
	seen := meta{Attempt: task.Attempt()}
	if key := task.Key(); key != "" {
		seen.Key = &key
	}
	if deadline, ok := task.Deadline(); ok {
		left := time.Until(deadline).Milliseconds()
		seen.DeadlineMs = &left
	}
	return seen
}

func goexit(*task) (any, error) {
	runtime.Goexit()
	return nil, nil
}
