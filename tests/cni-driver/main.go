// Runs a list of CNI plugins through libcni, as a container runtime does.
//
//	cni-driver add|check|del LIST CONTAINER NETNS IFNAME
//
// CNI_PATH lists the folders of the plugins and CNI_CACHE has the results; CNI_CAPABILITIES has the
// values of capabilities as a JSON object. Standard output gets the result of the list, or the error
// with its code.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

func run(command, file, container, netns, ifname string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	list, err := libcni.ConfListFromBytes(text)
	if err != nil {
		return err
	}
	runtime := &libcni.RuntimeConf{ContainerID: container, NetNS: netns, IfName: ifname}
	if capabilities := os.Getenv("CNI_CAPABILITIES"); capabilities != "" {
		if err := json.Unmarshal([]byte(capabilities), &runtime.CapabilityArgs); err != nil {
			return err
		}
	}
	path := filepath.SplitList(os.Getenv("CNI_PATH"))
	config := libcni.NewCNIConfigWithCacheDir(path, os.Getenv("CNI_CACHE"), nil)
	switch command {
	case "add":
		result, err := config.AddNetworkList(context.Background(), list, runtime)
		if err != nil {
			return err
		}
		return result.Print()
	case "check":
		return config.CheckNetworkList(context.Background(), list, runtime)
	case "del":
		return config.DelNetworkList(context.Background(), list, runtime)
	}
	return fmt.Errorf("unknown command %s", command)
}

func main() {
	if len(os.Args) != 6 {
		fmt.Fprintln(os.Stderr, "usage: cni-driver add|check|del LIST CONTAINER NETNS IFNAME")
		os.Exit(2)
	}
	err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5])
	if err == nil {
		return
	}
	var failure *types.Error
	if !errors.As(err, &failure) {
		failure = &types.Error{Code: types.ErrInternal, Msg: err.Error()}
	}
	json.NewEncoder(os.Stdout).Encode(failure)
	os.Exit(1)
}
