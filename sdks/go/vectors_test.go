package stokehold

// The messages of protocol/vectors/frames.jsonl through this codec: read as each vector says, and written as the value that it names.

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
)

type vector struct {
	ID, Verdict, Stage, Carrier, Spec string
	Bytes                             any
	Msg                               []any
}

// repeated is hexadecimal digits, or [digits, count].
func repeated(notation any) []byte {
	if run, ok := notation.([]any); ok {
		count, _ := run[1].(json.Number).Int64()
		return bytes.Repeat(repeated(run[0]), int(count))
	}
	piece, err := hex.DecodeString(notation.(string))
	if err != nil {
		panic(err)
	}
	return piece
}

// stream is digits, or an array of digits and runs.
func stream(notation any) (all []byte) {
	switch notation := notation.(type) {
	case []any:
		for _, part := range notation {
			all = append(all, stream(part)...)
		}
	case map[string]any:
		all = repeated(notation["repeat"])
	default:
		all = repeated(notation)
	}
	return all
}

// valueOf is what the notation of a message stands for.
func valueOf(notation any) any {
	switch notation := notation.(type) {
	case json.Number:
		n, _ := notation.Int64()
		return n
	case []any:
		values := make([]any, len(notation))
		for n := range values {
			values[n] = valueOf(notation[n])
		}
		return values
	case map[string]any:
		for tag, inner := range notation {
			switch tag {
			case "$int":
				if n, err := strconv.ParseInt(inner.(string), 10, 64); err == nil {
					return n
				}
				n, _ := strconv.ParseUint(inner.(string), 10, 64)
				return n
			case "$f64":
				bits, _ := strconv.ParseUint(inner.(string), 16, 64)
				return math.Float64frombits(bits)
			case "$bin":
				return repeated(inner)
			case "$str":
				return string(repeated(inner))
			}
		}
		entries := map[string]any{}
		for _, pair := range notation["$map"].([]any) {
			entries[valueOf(pair.([]any)[0]).(string)] = valueOf(pair.([]any)[1])
		}
		return entries
	}
	return notation
}

func TestEveryVectorIsReadAndWrittenAsItSays(t *testing.T) {
	file, err := os.ReadFile("../../protocol/vectors/frames.jsonl")
	if os.IsNotExist(err) {
		t.Skip("this is no checkout of the whole repository")
	}
	count := 0
	for _, line := range strings.Split(strings.TrimSpace(string(file)), "\n")[1:] {
		var v vector
		decoder := json.NewDecoder(strings.NewReader(line))
		decoder.UseNumber()
		if err := decoder.Decode(&v); err != nil {
			t.Fatal(err)
		}
		if v.Carrier == "text" || v.Stage == "frame" {
			continue
		}
		count++
		body := stream(v.Bytes)[8:]
		_, at, err := readHead(body)
		if err == nil && v.Stage == "head" && v.Verdict == "reject" {
			t.Errorf("%s: the head is accepted", v.ID)
			continue
		}
		if err == nil {
			var end int
			end, err = check(body, at, depthMax)
			if err == nil && end != len(body) {
				err = os.ErrInvalid
			}
		}
		// [D-13] lets a child accept what only these forbid.
		lenient := v.Spec == "D-4" || v.Spec == "D-5" || v.Spec == "D-6" || v.Spec == "D-7"
		switch {
		case err != nil && v.Verdict == "accept":
			t.Errorf("%s: %v", v.ID, err)
		case err == nil && v.Verdict == "reject" && !lenient:
			t.Errorf("%s: the data is accepted", v.ID)
		case err == nil && v.Verdict != "reject":
			found, _ := decodeAny(body, at)
			if !bytes.Equal(encoded(t, found), encoded(t, valueOf(v.Msg[3]))) {
				t.Errorf("%s: another value", v.ID)
			}
		}
	}
	if count < 200 {
		t.Errorf("only %d vectors", count)
	}
}
