#!/usr/bin/env tclsh
# A worker in Tcl 8.6, made by the steps of a-worker-in-a-new-language.md: an echo, at level L2. The numbers are its steps.
# Put your work into `handle`; what it gets and gives is encoded.

# 6. The guard, before anything that may print.
proc leave {code why} {
    catch {puts stderr $why}
    exit $code
}

foreach name [array names env STOKEHOLD_*] {
    set given($name) $env($name)
    unset env($name)
}
lassign {0 1} r w
if {[info exists given(STOKEHOLD_IO)] && $given(STOKEHOLD_IO) ne "stdio"} {
    if {![regexp {^fd:(\d+),(\d+)$} $given(STOKEHOLD_IO) - r w]} { leave 2 "no transport: $given(STOKEHOLD_IO)" }
} elseif {![info exists given(STOKEHOLD_IO)] && [string match /dev/pts/* [file readlink /proc/self/fd/0]]} {
    leave 2 "this is a worker; run it with: stokehold run -- tclsh worker.tcl"
}
if {[catch {
    set input [open /dev/fd/$r {RDONLY BINARY}]
    set output [open /dev/fd/$w {WRONLY BINARY}]
} why]} { leave 2 $why }
if {$w == 1} {
    # What is opened next takes the free places 0 and 1.
    close stdin
    open /dev/null r
    close stdout
    if {[catch {open /dev/fd/2 WRONLY}]} { open /dev/null w }
}

# 2. HELLO, READY and everything else that is written.
proc text {string} {
    set bytes [encoding convertto utf-8 $string]
    return [binary format cI 0xdb [string length $bytes]]$bytes
}

proc send {id request data} {
    set body "\x94[binary format c [expr {0xa0 | [string length $request]}]]$request\x00\xc0$data"
    puts -nonewline $::output [binary format II [expr {[string length $body] + 4}] $id]$body
    flush $::output
}

# 3. The head. Kind, content and end of the text, integer or nil at `at`.
proc field {body at} {
    if {$at >= [string length $body]} { error "the head ends too early" }
    binary scan $body @${at}cu mark
    incr at
    if {$mark >= 0xa0 && $mark <= 0xbf} {
        set kind text
        set size [expr {$mark & 31}]
    } elseif {$mark >= 0xd9 && $mark <= 0xdb} {
        set kind text
        lassign [number $body $at [expr {1 << ($mark - 0xd9)}]] size at
    } elseif {$mark >= 0xcc && $mark <= 0xd3} {
        set width [expr {1 << ($mark & 3)}]
        lassign [number $body $at $width] value at
        # Tcl's integers have no limit: the sign is ours to restore.
        if {$mark >= 0xd0 && $value >> (8 * $width - 1)} { set value [expr {$value - (1 << 8 * $width)}] }
        return [list integer $value $at]
    } elseif {$mark < 0x80} {
        return [list integer $mark $at]
    } elseif {$mark >= 0xe0} {
        return [list integer [expr {$mark - 256}] $at]
    } elseif {$mark == 0xc0} {
        return [list nil "" $at]
    } else {
        error "neither text, integer nor nil"
    }
    set end [expr {$at + $size}]
    if {$end > [string length $body]} { error "the head ends too early" }
    return [list $kind [string range $body $at $end-1] $end]
}

proc number {body at width} {
    if {$at + $width > [string length $body]} { error "the head ends too early" }
    set value 0
    binary scan [string range $body $at [expr {$at + $width - 1}]] cu* bytes
    foreach byte $bytes { set value [expr {$value << 8 | $byte}] }
    return [list $value [expr {$at + $width}]]
}

proc valid {bytes} {
    return [expr {[encoding convertto utf-8 [encoding convertfrom utf-8 $bytes]] eq $bytes}]
}

# The request and the data.
proc message {body} {
    binary scan $body cu mark
    set at [dict get {148 1 220 3 221 5} $mark]
    if {$mark != 148 && [lindex [number $body 1 [expr {$at - 1}]] 0] != 4} { error "no array of four" }
    lassign [field $body $at] kind request at
    if {$kind ne "text" || $request eq "" || [string length $request] > 255 || ![valid $request]} { error "no request" }
    lassign [field $body $at] kind sender at
    if {$kind ne "integer" || $sender < 0 || $sender >= 1 << 53} { error "no sender" }
    lassign [field $body $at] kind recipient at
    if {$kind ne "nil" && ($kind ne "integer" || $recipient < -1 || $recipient == 0 || $recipient >= 1 << 53)} {
        error "no recipient"
    }
    if {$at >= [string length $body]} { error "no data" }
    return [list $request [string range $body $at end]]
}

# 4. Errors.
proc fail {id code message {begun \xc2}} {
    # So that no message fills a frame.
    set message [string range $message 0 10000]
    send $id FAILED "\x83[text code][text $code][text message][text $message][text begun]$begun"
}

proc handle {request data} {
    switch -- $request {
        DO { return $data }
    }
}

foreach {name wanted code supported} {STOKEHOLD_PROTO 1 version \x01 STOKEHOLD_CODEC msgpack codec \xa7msgpack} {
    if {[info exists given($name)] && $wanted ni [split $given($name) ,]} {
        send 0 FAILED "\x82[text code][text $code][text data]\x81[text supported]\x91$supported"
        leave 5 "$name has no $wanted"
    }
}
send 0 HELLO "\x82[text v]\x01[text sdk][text tcl]"
send 0 READY "\xc0"
# 1. Frames, 5. and their end.
while {[string length [set header [read $input 8]]] >= 4} {
    binary scan $header Iu length
    if {$length < 5 || $length > 0x00ffffff} {
        leave 4 "no frame: a length of $length"
    }
    if {[binary scan $header @4Iu id] != 1} { exit 3 }
    set body [read $input [expr {$length - 4}]]
    if {[string length $body] < $length - 4} { exit 3 }
    if {[catch {message $body} found]} {
        if {$id} { fail $id bad_message $found }
        continue
    }
    lassign $found request data
    if {$request eq "DIE"} {
        break
    } elseif {$request in {DO}} {
        if {[catch {handle $request $data} result]} {
            if {$id} { fail $id error $result \xc3 }
        } elseif {$id} {
            send $id FINISHED $result
        }
    } elseif {![regexp {^[A-Z][A-Z0-9_]*$} $request] && $id} {
        fail $id unknown_request "there is no handler for it"
    }
}
if {$header ne "" && [string length $header] < 8} { exit 3 }
send 0 BYE \xc0
exit 0
