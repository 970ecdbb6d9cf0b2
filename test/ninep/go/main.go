// An independent 9P2000 client (9fans.net/go) at work on a tree. Each command prints what it found as JSON.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"9fans.net/go/plan9"
	"9fans.net/go/plan9/client"
)

type options struct {
	network, address, aname, user, token, how string
	workers, files                            int
}

func main() {
	var given options
	flag.StringVar(&given.network, "network", "tcp", "tcp or unix")
	flag.StringVar(&given.address, "address", "", "HOST:PORT or the path of a socket")
	flag.StringVar(&given.aname, "aname", "", "tree to attach to")
	flag.StringVar(&given.user, "user", "glenda", "user name to give")
	flag.StringVar(&given.token, "token", "", "token to give")
	flag.StringVar(&given.how, "auth", "afid", "how the token is given: afid, aname or none")
	flag.IntVar(&given.workers, "workers", 64, "goroutines of `concurrent`")
	flag.IntVar(&given.files, "files", 20, "files each of them writes")
	flag.Parse()
	commands := map[string]func(options) (any, error){
		"attach": attachOnly, "tree": tree, "changes": changes, "concurrent": concurrent,
	}
	command := commands[flag.Arg(0)]
	if command == nil {
		fail(fmt.Errorf("no such command: %q", flag.Arg(0)))
	}
	found, err := command(given)
	if err != nil {
		fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// mount attaches as the options say.
func mount(given options) (*client.Fsys, error) {
	conn, err := client.Dial(given.network, given.address)
	if err != nil {
		return nil, err
	}
	switch given.how {
	case "none":
		return conn.Attach(nil, given.user, given.aname)
	case "aname":
		return conn.Attach(nil, given.user, given.token+"@"+given.aname)
	}
	afid, err := conn.Auth(given.user, given.aname)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	// In pieces, as a terminal might.
	for _, piece := range []string{given.token[:len(given.token)/2], given.token[len(given.token)/2:]} {
		if _, err := afid.Write([]byte(piece)); err != nil {
			return nil, fmt.Errorf("writing the token: %w", err)
		}
	}
	fsys, err := conn.Attach(afid, given.user, given.aname)
	if err != nil {
		return nil, err
	}
	return fsys, afid.Close()
}

func attachOnly(given options) (any, error) {
	fsys, err := mount(given)
	if err != nil {
		return map[string]string{"refused": err.Error()}, nil
	}
	root, err := fsys.Stat("")
	if err != nil {
		return nil, err
	}
	return map[string]any{"root": root.Name, "directory": root.Mode&plan9.DMDIR != 0}, nil
}
