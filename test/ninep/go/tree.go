package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"9fans.net/go/plan9"
	"9fans.net/go/plan9/client"
)

type entry struct {
	Path      string `json:"path"`
	Directory bool   `json:"directory"`
	Mode      uint32 `json:"mode"`
	Length    uint64 `json:"length"`
	Mtime     uint32 `json:"mtime"`
	Uid       string `json:"uid"`
	Qid       uint64 `json:"qid"`
	Version   uint32 `json:"version"`
	Sha256    string `json:"sha256,omitempty"`
}

// tree reads every file below the root. What a directory tells of an entry has to be what the entry tells of itself.
func tree(given options) (any, error) {
	fsys, err := mount(given)
	if err != nil {
		return nil, err
	}
	entries := []entry{}
	err = below(fsys, "", &entries)
	return entries, err
}

func below(fsys *client.Fsys, path string, entries *[]entry) error {
	directory, err := fsys.Open(path, plan9.OREAD)
	if err != nil {
		return fmt.Errorf("opening %s: %w", path, err)
	}
	listed, err := directory.Dirreadall()
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	if err := directory.Close(); err != nil {
		return err
	}
	for _, dir := range listed {
		at := path + "/" + dir.Name
		own, err := fsys.Stat(at)
		if err != nil {
			return fmt.Errorf("stat of %s: %w", at, err)
		}
		if *own != *dir {
			return fmt.Errorf("%s: listed as %v, is %v", at, dir, own)
		}
		found := entry{
			Path: at[1:], Directory: dir.Mode&plan9.DMDIR != 0, Mode: uint32(dir.Mode & 0777), Length: dir.Length,
			Mtime: dir.Mtime, Uid: dir.Uid, Qid: dir.Qid.Path, Version: dir.Qid.Vers,
		}
		if !found.Directory {
			if found.Sha256, err = digest(fsys, at); err != nil {
				return fmt.Errorf("reading %s: %w", at, err)
			}
		}
		*entries = append(*entries, found)
		if found.Directory {
			if err := below(fsys, at, entries); err != nil {
				return err
			}
		}
	}
	return nil
}

func digest(fsys *client.Fsys, path string) (string, error) {
	fid, err := fsys.Open(path, plan9.OREAD)
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, fid); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), fid.Close()
}
