package main

import (
	"bytes"
	"fmt"
	"io"

	"9fans.net/go/plan9"
	"9fans.net/go/plan9/client"
)

// A run of steps on one tree: each either finds what it says, or a message that was refused tells why.
type run struct {
	fsys    *client.Fsys
	refused map[string]string
	read    map[string]string
	stats   map[string]*plan9.Dir
}

// changes makes, writes, renames and removes below the root, and leaves a tree that the caller knows.
func changes(given options) (any, error) {
	fsys, err := mount(given)
	if err != nil {
		return nil, err
	}
	r := &run{fsys, map[string]string{}, map[string]string{}, map[string]*plan9.Dir{}}
	for index, step := range []func(*run) error{made, written, appended, stats, renamed, removed, removedOnClose, deep, refused} {
		if err := step(r); err != nil {
			return nil, fmt.Errorf("step %d: %w", index, err)
		}
	}
	return map[string]any{"refused": r.refused, "read": r.read, "stats": r.stats}, nil
}

func (r *run) make(path string, mode uint8, perm plan9.Perm, text string) error {
	fid, err := r.fsys.Create(path, mode, perm)
	if err != nil {
		return fmt.Errorf("creating %s: %w", path, err)
	}
	if text != "" {
		if _, err := fid.Write([]byte(text)); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
	}
	return fid.Close()
}

func (r *run) wstat(path string, change func(*plan9.Dir)) error {
	var dir plan9.Dir
	dir.Null()
	change(&dir)
	return r.fsys.Wstat(path, &dir)
}

func (r *run) expectRefused(name string, err error) error {
	if err == nil {
		return fmt.Errorf("%s was not refused", name)
	}
	r.refused[name] = err.Error()
	return nil
}

func made(r *run) error {
	for _, path := range []string{"made", "made/inner", "gone"} {
		if err := r.make(path, plan9.OREAD, plan9.DMDIR|0755, ""); err != nil {
			return err
		}
	}
	if err := r.make("made/inner/größe ☃", plan9.OWRITE, 0600, "snow"); err != nil {
		return err
	}
	return r.make("made/empty", plan9.OREAD, 0444, "")
}

// written goes through one open file: at an offset, over what is there, past the end, and back.
func written(r *run) error {
	fid, err := r.fsys.Create("made/file", plan9.ORDWR, 0644)
	if err != nil {
		return err
	}
	block := bytes.Repeat([]byte("0123456789abcdef"), 64*1024)
	if _, err := fid.Write(block); err != nil {
		return err
	}
	if _, err := fid.WriteAt([]byte("CHANGED"), 100_000); err != nil {
		return err
	}
	if _, err := fid.WriteAt([]byte("end"), int64(len(block))+10); err != nil {
		return err
	}
	copy(block[100_000:], "CHANGED")
	expected := append(append(block, make([]byte, 10)...), "end"...)
	end, err := fid.Seek(0, 2)
	if err != nil || end != int64(len(expected)) {
		return fmt.Errorf("its end is at %d, %w", end, err)
	}
	if _, err := fid.Seek(0, 0); err != nil {
		return err
	}
	found, err := io.ReadAll(fid)
	if err != nil || !bytes.Equal(found, expected) {
		return fmt.Errorf("read %d bytes, other than what was written: %w", len(found), err)
	}
	if n, err := fid.ReadAt(make([]byte, 10), end); n != 0 || err != io.EOF {
		return fmt.Errorf("behind the end: %d bytes, %w", n, err)
	}
	if err := fid.Close(); err != nil {
		return err
	}
	again, err := r.fsys.Open("made/file", plan9.OWRITE|plan9.OTRUNC)
	if err != nil {
		return err
	}
	if _, err := again.Write([]byte("anew")); err != nil {
		return err
	}
	return again.Close()
}

// appended: whoever makes an append-only file writes at its end, whatever offset is named.
func appended(r *run) error {
	fid, err := r.fsys.Create("made/log", plan9.OWRITE, plan9.DMAPPEND|0644)
	if err != nil {
		return err
	}
	for _, line := range []string{"one\n", "two\n", "three\n"} {
		if _, err := fid.WriteAt([]byte(line), 0); err != nil {
			return err
		}
	}
	return fid.Close()
}

func stats(r *run) error {
	if err := r.make("made/changed", plan9.OWRITE, 0644, "0123456789"); err != nil {
		return err
	}
	if err := r.wstat("made/changed", func(dir *plan9.Dir) { dir.Length = 4 }); err != nil {
		return err
	}
	if err := r.wstat("made/changed", func(dir *plan9.Dir) { dir.Mode, dir.Mtime = 0640, 1_000_000_000 }); err != nil {
		return err
	}
	// Nothing to change: the file is to be on disk.
	if err := r.wstat("made/changed", func(*plan9.Dir) {}); err != nil {
		return err
	}
	for _, path := range []string{"made", "made/changed", "made/empty", "made/inner/größe ☃", "made/log"} {
		dir, err := r.fsys.Stat(path)
		if err != nil {
			return err
		}
		r.stats[path] = dir
	}
	return nil
}

func renamed(r *run) error {
	if err := r.make("made/before", plan9.OWRITE, 0644, "moved"); err != nil {
		return err
	}
	// An open file goes along.
	open, err := r.fsys.Open("made/before", plan9.ORDWR)
	if err != nil {
		return err
	}
	if err := r.wstat("made/before", func(dir *plan9.Dir) { dir.Name = "after" }); err != nil {
		return err
	}
	if _, err := open.WriteAt([]byte("!"), 5); err != nil {
		return err
	}
	if err := open.Close(); err != nil {
		return err
	}
	if err := r.wstat("made/inner", func(dir *plan9.Dir) { dir.Name = "within" }); err != nil {
		return err
	}
	_, err = r.fsys.Stat("made/before")
	return r.expectRefused("renamed away", err)
}

func removed(r *run) error {
	if err := r.make("gone/file", plan9.OWRITE, 0644, "x"); err != nil {
		return err
	}
	if err := r.expectRefused("remove of a full directory", r.fsys.Remove("gone")); err != nil {
		return err
	}
	if err := r.fsys.Remove("gone/file"); err != nil {
		return err
	}
	return r.fsys.Remove("gone")
}

func removedOnClose(r *run) error {
	fid, err := r.fsys.Create("made/temporary", plan9.ORDWR|plan9.ORCLOSE, 0644)
	if err != nil {
		return err
	}
	if _, err := fid.Write([]byte("soon gone")); err != nil {
		return err
	}
	if _, err := r.fsys.Stat("made/temporary"); err != nil {
		return err
	}
	if err := fid.Close(); err != nil {
		return err
	}
	_, err = r.fsys.Stat("made/temporary")
	return r.expectRefused("removed on close", err)
}

// deep: more names than one walk carries.
func deep(r *run) error {
	path, above := "made/deep", ""
	for level := 0; level < 40; level++ {
		if err := r.make(path, plan9.OREAD, plan9.DMDIR|0755, ""); err != nil {
			return err
		}
		above, path = path, path+"/"+fmt.Sprint("level", level)
	}
	if err := r.make(path, plan9.OWRITE, 0644, "at the bottom"); err != nil {
		return err
	}
	fid, err := r.fsys.Open(above+"/../level38/level39", plan9.OREAD)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(fid)
	r.read["deep"] = string(text)
	if err != nil {
		return err
	}
	return fid.Close()
}

func refused(r *run) error {
	_, missing := r.fsys.Open("made/missing", plan9.OREAD)
	_, below := r.fsys.Stat("made/file/below")
	_, twice := r.fsys.Create("made/file", plan9.OWRITE, 0644)
	_, written := r.fsys.Open("made", plan9.OWRITE)
	_, slash := r.fsys.Create("made/..", plan9.OWRITE, 0644)
	reading, err := r.fsys.Open("made/file", plan9.OREAD)
	if err != nil {
		return err
	}
	_, unwritable := reading.Write([]byte("x"))
	for name, err := range map[string]error{
		"open of nothing": missing, "walk through a file": below, "create of what exists": twice, "directory to write": written,
		"create of ..": slash, "write of a file open to read": unwritable,
		"rename onto another": r.wstat("made/after", func(dir *plan9.Dir) { dir.Name = "file" }),
		"change of owner":     r.wstat("made/after", func(dir *plan9.Dir) { dir.Uid = "somebody else" }),
	} {
		if err := r.expectRefused(name, err); err != nil {
			return err
		}
	}
	return reading.Close()
}
