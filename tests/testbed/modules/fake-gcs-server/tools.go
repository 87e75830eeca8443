//go:build tools

// Package tools names the commands that ../../binaries.py builds from this module.
package tools

import _ "github.com/fsouza/fake-gcs-server"
