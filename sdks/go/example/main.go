// A worker: `printf 'a word or two\n' | stokehold run --request longest -- ./example`.
package main

import (
	"fmt"
	"sort"
	"strings"

	stokehold "github.com/stokehold/stokehold/sdks/go"
)

func main() {
	var worker stokehold.Worker
	worker.Handle("longest", stokehold.Typed(func(task *stokehold.Task, text string) (string, error) {
		words := strings.Fields(text + " ?")
		sort.SliceStable(words, func(i, j int) bool { return len(words[i]) > len(words[j]) })
		fmt.Println("attempt", task.Attempt()) // harmless: it goes to stderr
		return words[0], nil
	}))
	worker.Serve()
}
