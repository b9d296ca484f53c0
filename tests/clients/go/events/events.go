// Package events writes the lines of a history (crates/checker/src/event.rs).
package events

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"unsafe"
)

// A Log belongs to one client; its lines go to standard output, each at once.
type Log struct {
	client string
	lock   sync.Mutex
	out    *bufio.Writer
}

// Fields of a line beside its time, client and op.
type Fields map[string]any

// New is the log of a client.
func New(client string) *Log { return &Log{client: client, out: bufio.NewWriterSize(os.Stdout, 1<<16)} }

// Write adds a line.
func (l *Log) Write(op string, fields Fields) {
	l.lock.Lock()
	defer l.lock.Unlock()
	fields["t"], fields["client"], fields["op"] = Now(), l.client, op
	line, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	l.out.Write(line)
	l.out.WriteByte('\n')
	l.out.Flush()
}

// Now reads CLOCK_MONOTONIC, which all processes of a machine share.
func Now() int64 {
	var time syscall.Timespec
	const monotonic = 1
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, monotonic, uintptr(unsafe.Pointer(&time)), 0)
	return time.Nano()
}

// Finish is closed when standard input ends: the harness has asked the program to finish.
func Finish() <-chan struct{} {
	asked := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(asked)
	}()
	return asked
}

// Must ends the program with a reason.
func Must(err error, doing string) {
	if err != nil {
		fmt.Printf("%s: %v\n", doing, err)
		os.Exit(1)
	}
}

// Seeds are the addresses of a list of bootstrap servers.
func Seeds(bootstrap string) []string { return strings.Split(bootstrap, ",") }
