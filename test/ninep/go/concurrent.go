package main

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"9fans.net/go/plan9"
	"9fans.net/go/plan9/client"
)

// concurrent has many goroutines write, read back, rename and remove over one connection, in one directory, and all of them
// append to one file.
func concurrent(given options) (any, error) {
	fsys, err := mount(given)
	if err != nil {
		return nil, err
	}
	shared, err := fsys.Create("shared", plan9.OWRITE, plan9.DMAPPEND|0644)
	if err != nil {
		return nil, err
	}
	failures := make(chan error, given.workers)
	var workers sync.WaitGroup
	for worker := 0; worker < given.workers; worker++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for file := 0; file < given.files; file++ {
				if err := work(fsys, shared, worker, file); err != nil {
					failures <- fmt.Errorf("worker %d, file %d: %w", worker, file, err)
					return
				}
			}
		}()
	}
	workers.Wait()
	close(failures)
	for failure := range failures {
		return nil, failure
	}
	if err := shared.Close(); err != nil {
		return nil, err
	}
	return map[string]int{"kept": given.workers * ((given.files + 1) / 2), "lines": given.workers * given.files}, nil
}

func work(fsys *client.Fsys, shared *client.Fid, worker, file int) error {
	name := fmt.Sprintf("file-%d-%d", worker, file)
	content := bytes.Repeat([]byte(name+"\n"), 1+file*200)
	fid, err := fsys.Create(name+".part", plan9.ORDWR, 0644)
	if err != nil {
		return err
	}
	if _, err := fid.WriteAt(content, 0); err != nil {
		return err
	}
	if _, err := fid.Seek(0, 0); err != nil {
		return err
	}
	found, err := io.ReadAll(fid)
	if err != nil || !bytes.Equal(found, content) {
		return fmt.Errorf("%d bytes came back of %d: %w", len(found), len(content), err)
	}
	if err := fid.Close(); err != nil {
		return err
	}
	var dir plan9.Dir
	dir.Null()
	dir.Name = name
	if err := fsys.Wstat(name+".part", &dir); err != nil {
		return err
	}
	if _, err := shared.WriteAt([]byte(name+"\n"), 0); err != nil {
		return err
	}
	if file%2 == 1 {
		return fsys.Remove(name)
	}
	return nil
}
