package Stokehold::Worker;

# A Stokehold worker in one file, on core modules only. The documentation is at the end: perldoc Stokehold/Worker.pm.
# Names in brackets are the statements of protocol/SPEC.md that a line keeps.

use strict;
use warnings;
no warnings qw(recursion non_unicode surrogate nonchar);
use B ();
use Errno qw(EINTR EAGAIN);
use Exporter qw(import);
use Fcntl qw(F_GETFD F_GETFL F_SETFD FD_CLOEXEC);
use IO::Poll qw(POLLIN POLLERR POLLHUP);
use JSON::PP ();    # for true and false
use POSIX ();
use Scalar::Util qw(blessed);
use Time::HiRes ();

our $VERSION   = '1';
our @EXPORT_OK = qw(serve guard failure bytes true false);

use constant {
    MAX_FRAME      => 0x00FFFFFF,
    FRAME_CEILING  => 0x07FFFFFF,
    FRAME_FLOOR    => 0x00010000,
    HELLO_MAX      => 65_536,
    ADDRESS_MAX    => 2**53 - 1,
    DEPTH_MAX      => 64,
    AHEAD_MAX      => 1 << 26,     # bytes that a look at the input may read ahead
    PROGRESS_S     => 0.05,        # one report in so much time
    LOGS_A_SECOND  => 10_000,
};

my %CHILD_CODE = map { $_ => 1 }
    qw(error unknown_request bad_data bad_message too_large cancelled overloaded unavailable);

sub true  { JSON::PP::true() }
sub false { JSON::PP::false() }
sub bytes { my $content = shift; utf8::downgrade($content); bless \$content, 'Stokehold::Worker::Bytes' }

sub failure {
    my ($code, $message, %more) = @_;
    bless { code => $code, message => $message, %more }, 'Stokehold::Worker::Failure';
}

# The one connection of a process.
my ($in, $out, $has_parent);
my ($arrived, $unsent) = ('', '');
my ($skipping, $skip_left);               # the id of a frame that is too large, and what of it has not come
my @queue;                                # tasks that wait: [id, request, handler, body, where its data begins, meta, refusal]
my ($queued_bytes, %open) = (0);          # tasks that are not answered: id => { cancelled }
my ($ended, $exit, $dropping, $looked_at) = (0, 0, 0, 0);
my ($meta_id, $meta);
my ($greeted, $peer_max_frame, $addresses, $says_started) = (0, MAX_FRAME, '', 0);
my ($known_head, $known_request) = ("\xc1", '');
my ($watched, $input_bits) = IO::Poll->new;
my %handlers;

sub serve {
    my ($handlers, %options) = @_;
    $handlers = { DO => $handlers } if ref $handlers eq 'CODE';
    die "serve takes a function, or a hash of them\n" unless ref $handlers eq 'HASH' && %$handlers;
    for my $name (keys %$handlers) {
        my $octets = $name;
        utf8::encode($octets);
        die "'$name' cannot be the name of a handler\n"    # [R-12]
            if !length $octets || length $octets > 255 || is_protocols($name) && $name ne 'DO';
    }
    %handlers = %$handlers;
    my $window = $options{window} || 16;
    guard();
    # A handler of its own, not IGNORE, which programs that are started here would inherit.
    $SIG{INT} = sub { } if $has_parent;                    # the parent decides [X-11]
    $SIG{PIPE} = sub { };                                  # the write says so [L-5]
    $addresses = encode($$ + 0) . "\xc0";
    my %hello = (
        v => 1, window => $window + 0, serial => true(), caps => [qw(cancel meta started)], max_frame => MAX_FRAME,
        sdk => "perl/$VERSION", methods => [sort keys %handlers],
    );
    delete $hello{methods} if length(encode(\%hello)) > HELLO_MAX - 300;    # [F-3]
    put(0, 'HELLO', encode(\%hello));
    flush_out();
    if ($options{init} && !eval { $options{init}->(); 1 }) {
        print STDERR "Stokehold::Worker: $@\n";
        leave(1);
    }
    put(0, 'READY', "\xc0");
    $input_bits = bits($in);
    $watched->mask($in => POLLIN);
    $watched->mask($out => POLLERR | POLLHUP);
    while (1) {
        if (@queue && abs((my $now = Time::HiRes::time()) - $looked_at) > 0.001) {
            $looked_at = $now;
            look();    # for CANCEL, and DIE with `now`
        }
        last if $dropping;
        if (my $task = shift @queue) {
            $queued_bytes -= length $task->[3];
            run(@$task);
        }
        elsif ($ended) { last }
        else {
            flush_out();                                   # before anything that may wait [W-9]
            wait_for_input();
            take_in();
        }
    }
    put(0, 'BYE', "\xc0") if !$dropping && !$exit;         # [S-7]
    $unsent = '' if $dropping;                             # [L-3]
    flush_out();
    leave($exit);
}

sub leave {
    my ($code, $why) = @_;
    print STDERR "Stokehold::Worker: $why\n" if defined $why;
    exit $code;
}

# Moves the protocol away from descriptors 0 and 1, so that nothing that prints can damage it [X-4].
sub guard {
    return if $in;
    my $given = $ENV{STOKEHOLD_IO};
    leave(2, "this is a worker, run it with: stokehold run -- perl $0") if !defined $given && -t STDIN;    # [X-8]
    my %offer;
    $offer{$_} = delete $ENV{$_} for grep { /^STOKEHOLD_/ } keys %ENV;                                     # [X-6]
    my @numbers = !defined $given || $given eq 'stdio' ? (0, 1) : $given =~ /^fd:([0-9]{1,9}),([0-9]{1,9})\z/;
    leave(2, "STOKEHOLD_IO=$given is neither stdio nor fd:R,W") unless @numbers;                           # [X-7]
    for my $end ([\$in, '<&'], [\$out, '>&']) {
        my ($handle, $mode) = @$end;
        my $number = $mode eq '<&' ? $numbers[0] : $numbers[1];
        open($$handle, $mode, $number) or leave(2, "cannot use descriptor $number: $!");                   # [X-7]
        binmode $$handle;
        fcntl($$handle, F_SETFD, FD_CLOEXEC);                                                              # [X-5]
    }
    my %is_given = map { $_ => 1 } @numbers;
    if ($is_given{0}) {
        open(my $null, '<', '/dev/null') or leave(2, "cannot open /dev/null: $!");
        POSIX::dup2(fileno $null, 0);
    }
    if ($is_given{1}) {
        # Where standard error was closed, its number belongs to some file that Perl reads.
        my $flags = fcntl(STDERR, F_GETFL, 0);
        my $null = POSIX::open('/dev/null', POSIX::O_WRONLY());
        POSIX::dup2(defined $flags && $flags & (POSIX::O_WRONLY() | POSIX::O_RDWR()) ? 2 : $null, 1);
        POSIX::close($null);
        my $selected = select(STDOUT);
        $| = 1;    # only now: it writes what was printed before
        select($selected);
    }
    POSIX::close($_) for grep { $_ > 2 } keys %is_given;
    $has_parent = defined $given;
    for (['version', STOKEHOLD_PROTO => 1], ['codec', STOKEHOLD_CODEC => 'msgpack']) {
        my ($code, $variable, $ours) = @$_;
        my $offer = $offer{$variable};
        next if !defined $offer || grep { $_ eq $ours } split /\s*,\s*/, $offer;
        my $why = "the parent offers $code '$offer', this worker has $ours";
        $addresses = encode($$ + 0) . "\xc0";
        put(0, 'FAILED', encode({ code => $code, message => $why, data => { supported => [$ours] } }));
        flush_out();
        leave(5, $why);    # [V-3]
    }
}

# One task.
sub run {
    my ($id, $request, $handler, $body, $at, $meta, $refusal) = @_;
    my $state = $id ? $open{$id} : {};
    return fail($id, { code => $refusal->[0], message => $refusal->[1], begun => false() }) if $refusal;
    if ($state->{cancelled}) {    # [R-41]
        return fail($id, { code => 'cancelled', message => 'cancelled before it began', begun => false() });
    }
    my $data;
    eval { $data = decode_all($body, $at); 1 } or do {    # [D-13]
        return fail($id, { code => 'bad_data', message => words($@), begun => false() });
    };
    undef $body;
    put($id, 'STARTED', "\xc0") if $says_started && $id;  # [R-35]
    flush_out();                                          # [L-13] [R-44]
    my $task = bless {
        id => $id, request => $request, state => $state, progress_at => 0, looked_at => 0,
        attempt => is_count($meta->{attempt}) && $meta->{attempt} > 0 ? $meta->{attempt} : 1,
        key     => is_text($meta->{key}) ? $meta->{key} : undef,
        deadline => is_count($meta->{deadline_ms}) ? Time::HiRes::time() + $meta->{deadline_ms} / 1000 : undef,
    }, 'Stokehold::Worker::Task';
    my ($result, $encoded);
    my $done = do {
        local $@;
        my $fine = eval { local $SIG{__DIE__}; $result = $handler->($data, $task); 1 };
        $fine || do {
            my $error = $@;
            # What it died of may have methods that die.
            $encoded = eval { local $SIG{__DIE__}; failure_of($error) } || { code => 'error', message => ref $error };
            0;
        };
    };
    $task->{over} = 1;
    put($id, 'PROGRESS', $task->{report}) if defined $task->{report} && !$dropping;
    return if $dropping;
    return fail($id, $encoded) unless $done;
    $encoded = eval { encode($result) };
    return fail($id, failure_of(unsendable('result', $@))) unless defined $encoded;
    return unless $id;                                    # [R-21]
    return if put($id, 'FINISHED', $encoded);
    fail($id, { code => 'too_large', message => 'the result has ' . length($encoded) . ' bytes' });    # [R-27]
}

sub fail {
    my ($id, $failure) = @_;
    if (!$id) {
        print STDERR "Stokehold::Worker: a one-way request failed: $failure->{message}\n";
        return;
    }
    my $encoded = eval { encode($failure) };
    if (!defined $encoded || !put($id, 'FAILED', $encoded)) {    # its data cannot be sent
        delete $failure->{data};
        put($id, 'FAILED', encode($failure));
    }
}

# What FAILED says about what a handler died of, cut so that it fits the smallest frame a parent may announce [E-10].
sub failure_of {
    my ($error) = @_;
    return { code => 'error', message => cut(words($error), 32_000) }
        unless blessed $error && $error->isa('Stokehold::Worker::Failure');
    my $code = defined $error->{code} ? "$error->{code}" : 'error';
    $code = 'error' unless $CHILD_CODE{$code} || $code =~ /\./;  # [E-2]
    my %said = (code => cut($code, 1024), message => cut(defined $error->{message} ? $error->{message} : $code, 32_000));
    $said{retry}    = true()                     if $error->{retry};
    $said{after_ms} = int($error->{after_ms})    if defined $error->{after_ms} && $error->{after_ms} >= 0;
    $said{data}     = $error->{data}             if defined $error->{data};
    return \%said;
}

sub words {
    my ($error) = @_;
    my $words = eval { local $SIG{__DIE__}; "$error" };
    $words = ref $error unless defined $words;
    $words =~ s/\s+\z//;
    return length $words ? $words : 'died';
}

# The failure for a value that cannot be sent.
sub unsendable {
    my ($what, $error) = @_;
    return $error if ref $error eq 'Stokehold::Worker::Failure';    # too_large
    return failure('bad_data', "the $what cannot be sent: " . words($error));
}

# A text of at most so many bytes, with nothing in it that cannot be sent.
sub cut {
    my ($text, $size) = @_;
    $text = "$text";
    $text =~ s/[\x{D800}-\x{DFFF}\x{110000}-\x{7FFFFFFF}]/\x{FFFD}/g if utf8::is_utf8($text);
    utf8::encode($text);
    $text = substr $text, 0, $size;
    chop $text while length $text && !utf8::decode(my $copy = $text);    # not within a character
    utf8::decode($text);
    return $text;
}

# Writing

# Puts a frame behind what waits; false if it is too large. A final answer frees its id.
sub put {
    my ($id, $request, $encoded) = @_;
    my $size = 6 + length($request) + length($addresses) + length $encoded;
    return 0 if $size > $peer_max_frame;
    $unsent .= pack('NN', $size, $id) . "\x94" . chr(0xA0 | length $request) . $request . $addresses . $encoded;
    delete $open{$id} if $id && ($request eq 'FINISHED' || $request eq 'FAILED');
    return 1;
}

sub flush_out {
    my $at = 0;
    while ($at < length $unsent) {
        my $written = syswrite $out, $unsent, length($unsent) - $at, $at;
        if (defined $written) { $at += $written }
        elsif ($! == EAGAIN) { select(undef, my $ready = bits($out), undef, undef) }
        elsif ($! != EINTR) { POSIX::_exit(1) }           # nobody reads any more [L-5]
    }
    $unsent = '';
}

sub bits { my $bits = ''; vec($bits, fileno $_[0], 1) = 1; $bits }

# Reading

# One read, and what it has completed.
# Until there is input, or its end, or nobody reads the output any more, in which case the process ends [L-5].
sub wait_for_input {
    return if select my $ready = $input_bits, undef, undef, 0.01;    # while there is work: it costs less
    $watched->poll;
    POSIX::_exit(1) if $watched->events($out) & (POLLERR | POLLHUP);
}

sub take_in {
    my $got = sysread $in, $arrived, 1 << 16, length $arrived;
    if (!defined $got) {
        return if $! == EINTR;
        if ($! == EAGAIN) { select(my $ready = bits($in), undef, undef, undef); return }
        leave(1, "cannot read: $!");
    }
    if (!$got) {
        $ended = 1;
        if (length $arrived || defined $skipping) {
            print STDERR "Stokehold::Worker: the input ended inside a frame\n";
            $exit = 3;                                    # [L-4]
        }
        return;
    }
    my $at = 0;
    while (!$ended) {
        if (defined $skipping) {                          # [F-11]
            my $here = length($arrived) - $at;
            if ($here < $skip_left) { $skip_left -= $here; $at = length $arrived; last }
            $at += $skip_left;
            refuse($skipping, 'too_large', 'the frame is above max_frame');    # [F-10]
            undef $skipping;
        }
        last if length($arrived) - $at < 4;
        my $size = unpack 'N', substr $arrived, $at, 4;
        if ($size < 5 || $size > FRAME_CEILING) {         # [F-5] [F-7]
            (my $shown = substr $arrived, $at, 32) =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ge;
            print STDERR "Stokehold::Worker: no frame begins with \"$shown\"\n";
            ($ended, $exit) = (1, 4);
            last;
        }
        last if length($arrived) - $at < 8;
        my $id = unpack 'N', substr $arrived, $at + 4, 4;
        if ($size > MAX_FRAME) {
            ($skipping, $skip_left) = ($id, $size - 4);
            $at += 8;
            next;
        }
        last if length($arrived) - $at < $size + 4;
        take($id, substr $arrived, $at + 8, $size - 4);
        $at += $size + 4;
    }
    substr($arrived, 0, $at) = '';
}

sub take {
    my ($id, $body) = @_;
    my ($about, $told) = ($meta_id, $meta);
    ($meta_id, $meta) = (undef, undef);                   # META counts for the next frame only [R-30]
    my ($request, $at);
    if (substr($body, 0, length $known_head) eq $known_head && length $body > length $known_head) {
        ($request, $at) = ($known_request, length $known_head);    # mostly they are all the same
    }
    else {
        eval { ($request, $at) = read_head($body); 1 } or return refuse($id, 'bad_message', words($@));    # [M-13]
        ($known_head, $known_request) = (substr($body, 0, $at), $request);
    }
    if (my $handler = $handlers{$request}) {
        return if $id && $open{$id};                      # [R-6]
        $open{$id} = {} if $id;
        $queued_bytes += length $body;
        my $mine = defined $about && $about == $id ? $told : {};
        push @queue, [$id, $request, $handler, $body, $at, $mine, undef];
        return;
    }
    return refuse($id, 'unknown_request', "there is no handler for '$request'") if !is_protocols($request) || $request eq 'DO';
    my $data = eval { [decode_all($body, $at)] };
    return if !$data && $request ne 'DIE';                # [D-18]
    my $keys = $data && ref $data->[0] eq 'HASH' ? $data->[0] : {};
    if ($request eq 'META' && $id) { ($meta_id, $meta) = ($id, $keys) }
    elsif ($request eq 'CANCEL') { $open{$id}{cancelled} = 1 if $open{$id} }    # [R-37]
    elsif ($request eq 'HELLO' && !$id) { take_hello($keys) }
    elsif ($request eq 'DIE' && !$id) {
        $ended = 1;
        $dropping = 1 if ref $keys->{now} && $keys->{now};      # [L-3]
    }
    # PING is answered by whoever lists it, which this file does not; the rest is not for a child [R-7] [R-9] [R-10].
}

# What is answered without a handler, in its turn; never with id 0 [R-21].
sub refuse {
    my ($id, $code, $why) = @_;
    return if !$id || $open{$id};
    $open{$id} = {};
    push @queue, [$id, '', undef, '', 0, {}, [$code, cut($why, 4096)]];
}

sub take_hello {
    my ($hello) = @_;
    return if $greeted++;                                 # [R-18]
    my ($pid, $parent, $max_frame) = @$hello{qw(pid parent max_frame)};
    if (is_count($max_frame)) {                           # [F-14]
        $peer_max_frame = $max_frame < FRAME_FLOOR ? FRAME_FLOOR : $max_frame > FRAME_CEILING ? FRAME_CEILING : $max_frame;
    }
    my $is_address = sub { is_count($_[0]) && $_[0] >= 1 && $_[0] <= ADDRESS_MAX };
    $addresses = encode($is_address->($pid) ? $pid : $$ + 0) . ($is_address->($parent) ? encode($parent) : "\xc0");   # [R-16]
    $says_started = ref $hello->{caps} eq 'ARRAY' && grep { defined && !ref && $_ eq 'started' } @{ $hello->{caps} };
}

# Between two tasks, and when a handler asks: what has come meanwhile, without waiting.
sub look {
    return if $ended || $queued_bytes > AHEAD_MAX;
    while (!$ended && select(my $ready = bits($in), undef, undef, 0) > 0) {
        take_in();
        last if $queued_bytes > AHEAD_MAX;
    }
}

sub is_protocols { $_[0] =~ /^[A-Z][A-Z0-9_]*\z/ }

sub is_count {
    my ($value) = @_;
    return 0 if !defined $value || ref $value;
    my $flags = B::svref_2object(\$value)->FLAGS;
    return ($flags & B::SVf_IOK) && !($flags & B::SVf_POK) && $value >= 0;
}

sub is_text {
    my ($value) = @_;
    return defined $value && !ref $value && B::svref_2object(\$value)->FLAGS & B::SVf_POK;
}

sub read_head {
    my ($body) = @_;
    my $mark = ord $body;
    my $at = $mark == 0x94 ? 1 : $mark == 0xDC ? 3 : $mark == 0xDD ? 5 : die "the message is no array of four\n";
    my $count = substr $body, 1, $at - 1;
    die "the message is no array of four\n" if $at == 3 && $count ne "\0\4" || $at == 5 && $count ne "\0\0\0\4";
    (my $request, $at) = decode($body, $at, 0);
    my $start = $at;
    (my $sender, $at) = decode($body, $at, 0);
    (my $recipient, $at) = decode($body, $at, 0);
    die "there is no data\n" if $at >= length $body;                     # [M-6]
    my $octets = is_text($request) ? $request : '';
    utf8::encode($octets);
    die "the request is no text of 1 to 255 bytes\n" if !length $octets || length $octets > 255;
    die "the sender is no address\n" if !is_count($sender) || $sender > ADDRESS_MAX;
    if (defined $recipient) {
        my $flags = ref $recipient ? 0 : B::svref_2object(\$recipient)->FLAGS;
        my $is_integer = ($flags & B::SVf_IOK) && !($flags & B::SVf_POK);
        die "the recipient is no address\n" if !$is_integer || $recipient < -1 || $recipient == 0 || $recipient > ADDRESS_MAX;
    }
    return ($request, $at);
}

# Values: MessagePack within the limits of [D-1] to [D-10]

my %NUMBER = (
    0xCA => ['f>', 4], 0xCB => ['d>', 8], 0xCC => ['C', 1], 0xCD => ['n', 2], 0xCE => ['N', 4], 0xCF => ['Q>', 8],
    0xD0 => ['c', 1], 0xD1 => ['s>', 2], 0xD2 => ['l>', 4], 0xD3 => ['q>', 8],
);
my %SIZED = (    # mark => kind, format, width
    0xC4 => ['bin', 'C', 1], 0xC5 => ['bin', 'n', 2], 0xC6 => ['bin', 'N', 4], 0xD9 => ['str', 'C', 1], 0xDA => ['str', 'n', 2],
    0xDB => ['str', 'N', 4], 0xDC => ['array', 'n', 2], 0xDD => ['array', 'N', 4], 0xDE => ['map', 'n', 2],
    0xDF => ['map', 'N', 4],
);

sub decode_all {
    my ($body, $at) = @_;
    (my $value, $at) = decode($body, $at, DEPTH_MAX);
    die "bytes follow the value\n" if $at != length $body;               # [D-1]
    return $value;
}

# The value at a place, and where it ends. No size is believed before its bytes came [D-9].
sub decode {
    my $at   = $_[1];
    my $room = $_[2];
    die "the bytes end before the value does\n" if $at >= length $_[0];
    my $mark = ord substr $_[0], $at++, 1;
    return ($mark, $at) if $mark < 0x80;
    return ($mark - 0x100, $at) if $mark >= 0xE0;
    my ($kind, $size);
    if ($mark < 0xC0) {
        ($kind, $size) = $mark >= 0xA0 ? ('str', $mark & 31) : ($mark >= 0x90 ? 'array' : 'map', $mark & 15);
    }
    elsif ($mark == 0xC0) { return (undef, $at) }
    elsif ($mark == 0xC2) { return (false(), $at) }
    elsif ($mark == 0xC3) { return (true(), $at) }
    elsif (my $number = $NUMBER{$mark}) {
        my ($form, $width) = @$number;
        die "the bytes end before the value does\n" if $at + $width > length $_[0];
        return (unpack($form, substr $_[0], $at, $width), $at + $width);
    }
    elsif (my $sized = $SIZED{$mark}) {
        my ($of, $form, $width) = @$sized;
        die "the bytes end before the value does\n" if $at + $width > length $_[0];
        ($kind, $size) = ($of, unpack $form, substr $_[0], $at, $width);
        $at += $width;
    }
    else { die sprintf "no value begins with the byte 0x%02x\n", $mark }    # [D-6] [D-7]
    if ($kind eq 'str' || $kind eq 'bin') {
        die "the bytes end before the value does\n" if $at + $size > length $_[0];
        my $content = substr $_[0], $at, $size;
        return (bytes($content), $at + $size) if $kind eq 'bin';
        if ($content =~ /[^\x00-\x7f]/) {                                # [D-3]
            utf8::decode($content) && $content !~ /[\x{D800}-\x{DFFF}\x{110000}-\x{7FFFFFFF}]/
                or die "a text is not UTF-8\n";
        }
        return ($content, $at + $size);
    }
    die "nested deeper than @{[DEPTH_MAX]} levels\n" if $room <= 0;      # [D-2]
    if ($kind eq 'array') {
        my @values;
        for (1 .. $size) {
            (my $value, $at) = decode($_[0], $at, $room - 1);
            push @values, $value;
        }
        return (\@values, $at);
    }
    my %pairs;
    for (1 .. $size) {
        my $mark = $at < length $_[0] ? ord substr $_[0], $at, 1 : 0xA0;
        die "a map key is no text\n" unless $mark >= 0xA0 && $mark < 0xC0 || $mark >= 0xD9 && $mark <= 0xDB;    # [D-4]
        (my $key, $at) = decode($_[0], $at, 0);
        die "a map has a key twice\n" if exists $pairs{$key};            # [D-5]
        ($pairs{$key}, $at) = decode($_[0], $at, $room - 1);
    }
    return (\%pairs, $at);
}

# Since Perl 5.36 the result of a comparison can be told from 1 and ''.
my $is_bool = defined &builtin::is_bool ? sub { no warnings; builtin::is_bool($_[0]) } : sub { 0 };

my $left;    # how many bytes the value may have yet

# A value as MessagePack in its shortest form [D-8]; dies if it cannot be sent, as soon as it is larger than the parent takes.
sub encode {
    my ($value) = @_;
    $left = $peer_max_frame;
    return encode_at($value, DEPTH_MAX);
}

sub spend {
    my ($size) = @_;
    die failure('too_large', "the value has more bytes than the $peer_max_frame that the parent takes") if $size > $left;
    $left -= $size;
}

sub encode_at {
    my ($value, $room) = @_;
    spend(1) if --$left < 0;
    return "\xc0" unless defined $value;
    if (my $class = ref $value) {
        if ($class eq 'ARRAY') {
            die "nested deeper than @{[DEPTH_MAX]} levels\n" if $room <= 0;
            my $count = @$value;    # once: a tied array may say another number each time
            die failure('too_large', "an array of $count values is more than the parent takes") if $count > $left;
            return size($count, 0x90, 16, undef, 0xDC, 0xDD) . join '', map { encode_at($value->[$_], $room - 1) } 0 .. $count - 1;
        }
        if ($class eq 'HASH') {
            die "nested deeper than @{[DEPTH_MAX]} levels\n" if $room <= 0;
            my @keys = sort keys %$value;    # the same each time
            my ($tied, %seen) = tied %$value;
            die "a hash has the same key twice\n" if $tied && grep { $seen{$_}++ } @keys;
            return size(scalar @keys, 0x80, 16, undef, 0xDE, 0xDF)
                . join '', map { text($_) . encode_at($value->{$_}, $room - 1) } @keys;
        }
        if ($class eq 'Stokehold::Worker::Bytes') {
            spend(length $$value);
            return size(length $$value, 0, 0, 0xC4, 0xC5, 0xC6) . $$value;
        }
        return $value ? "\xc3" : "\xc2" if $class eq 'JSON::PP::Boolean';
        die "a reference to $class cannot be sent\n";
    }
    die "a file handle cannot be sent\n" if ref \$value eq 'GLOB';
    return $value ? "\xc3" : "\xc2" if $is_bool->($value);
    my $flags = B::svref_2object(\$value)->FLAGS;
    return text($value) if $flags & B::SVf_POK || !($flags & (B::SVf_IOK | B::SVf_NOK | B::SVp_IOK | B::SVp_NOK));
    return "\xcb" . pack 'd>', $value unless $flags & B::SVf_IOK;
    if ($value >= 0) {
        return $value < 0x80 ? chr $value
            : $value < 0x100         ? "\xcc" . chr $value
            : $value < 0x10000       ? "\xcd" . pack 'n', $value
            : $value <= 0xFFFFFFFF   ? "\xce" . pack 'N', $value
            :                          "\xcf" . pack 'Q>', $value;
    }
    return $value >= -32 ? chr($value + 256)
        : $value >= -0x80            ? "\xd0" . pack 'c', $value
        : $value >= -0x8000          ? "\xd1" . pack 's>', $value
        : $value >= -0x80000000      ? "\xd2" . pack 'l>', $value
        :                              "\xd3" . pack 'q>', $value;
}

sub text {
    my ($text) = @_;
    die "a text has a character that Unicode has not\n"
        if utf8::is_utf8($text) && $text =~ /[\x{D800}-\x{DFFF}\x{110000}-\x{7FFFFFFF}]/;
    utf8::encode($text);
    spend(length $text);
    return size(length $text, 0xA0, 32, 0xD9, 0xDA, 0xDB) . $text;
}

sub size {
    my ($size, $short, $limit, @marks) = @_;
    return chr($short | $size) if $size < $limit;
    return chr($marks[0]) . chr $size if defined $marks[0] && $size < 0x100;
    return chr($marks[1]) . pack 'n', $size if $size < 0x10000;
    return chr($marks[2]) . pack 'N', $size if $size <= 0xFFFFFFFF;
    die "it is too large\n";
}

package Stokehold::Worker::Bytes;
use overload '""' => sub { ${ $_[0] } }, 'eq' => sub { "$_[0]" eq "$_[1]" }, fallback => 1;

package Stokehold::Worker::Failure;
use overload '""' => sub { defined $_[0]{message} ? $_[0]{message} : $_[0]{code} }, fallback => 1;

package Stokehold::Worker::Task;

# What a handler can ask and say. After the answer these do nothing.
sub id       { $_[0]{id} }
sub request  { $_[0]{request} }
sub attempt  { $_[0]{attempt} }
sub key      { $_[0]{key} }
sub deadline { $_[0]{deadline} }

sub time_left {
    my ($self) = @_;
    return undef unless defined $self->{deadline};
    my $left = $self->{deadline} - Time::HiRes::time();
    return $left > 0 ? $left : 0;
}

sub cancelled {
    my ($self) = @_;
    my $now = Time::HiRes::time();
    if (!$self->{over} && abs($now - $self->{looked_at}) >= 0.001) {
        $self->{looked_at} = $now;
        Stokehold::Worker::look();
    }
    return $self->{state}{cancelled} || $dropping ? 1 : 0;
}

sub check_cancelled {
    my ($self) = @_;
    die Stokehold::Worker::failure('cancelled', 'cancelled') if $self->cancelled;
}

sub item {
    my ($self, $value) = @_;
    return if !$self->{id} || $self->{over};
    my $encoded = eval { Stokehold::Worker::encode($value) };
    die Stokehold::Worker::unsendable('item', $@) unless defined $encoded;
    Stokehold::Worker::put($self->{id}, 'ITEM', $encoded)
        or die Stokehold::Worker::failure('too_large', 'the item has ' . length($encoded) . ' bytes');
    Stokehold::Worker::flush_out();
}

sub progress {
    my ($self, $done, $total, $note) = @_;
    return if !$self->{id} || $self->{over};
    my %report;
    $report{done}  = $done                                      if defined $done;
    $report{total} = $total                                     if defined $total;
    $report{note}  = Stokehold::Worker::cut($note, 32_000)      if defined $note;
    my ($encoded, $now) = (Stokehold::Worker::encode(\%report), Time::HiRes::time());
    if (abs($now - $self->{progress_at}) < Stokehold::Worker::PROGRESS_S()) {
        $self->{report} = $encoded;    # the latest is said before the answer
        return;
    }
    ($self->{progress_at}, $self->{report}) = ($now, undef);
    Stokehold::Worker::put($self->{id}, 'PROGRESS', $encoded);
    Stokehold::Worker::flush_out();
}

my ($second, $logs, $lost) = (0, 0, 0);

sub log {
    my ($self, $level, $message, %fields) = @_;
    return if $self->{over};
    my $now = time;
    ($second, $logs) = ($now, 0) if $now != $second;
    if (++$logs > Stokehold::Worker::LOGS_A_SECOND()) { $lost++; return }
    my @lines = [$level, $message, %fields];
    unshift @lines, ['warn', "$lost lines for the log were dropped: too many in a second"] if $lost;
    $lost = 0;
    for (@lines) {
        my ($level, $message, %fields) = @$_;
        my %line = (%fields, level => "$level", msg => Stokehold::Worker::cut($message, 32_000));
        Stokehold::Worker::put($self->{id}, 'LOG', Stokehold::Worker::encode(\%line));
    }
    Stokehold::Worker::flush_out();
}

1;

__END__

=encoding utf8

=head1 NAME

Stokehold::Worker - a Stokehold worker in one file

=head1 SYNOPSIS

    use Stokehold::Worker qw(serve failure);

    serve({
        word_count => sub {
            my ($text, $task) = @_;
            my %count;
            $count{$_}++ for split ' ', $text;
            return \%count;
        },
        fetch => sub { die failure('acme.busy', 'try later', retry => 1, after_ms => 2000) },
    });

=head1 DESCRIPTION

C<serve> speaks the Stokehold protocol, version 1, over standard input and output, and never returns. It needs Perl 5.14 with
64-bit integers and core modules only, on Linux or macOS. Tasks run one at a time in their order; every answer is written
before the next handler begins.

=head2 Functions

=over

=item serve($function) or serve(\%functions, %options)

C<$function> answers the request DO. Options: C<window>, how many unanswered tasks the parent may send (16); C<init>, a
function that loads what the handlers need before the worker says that it is ready.

=item guard()

Moves the protocol away from descriptors 0 and 1: what prints from then on prints to standard error, and standard input is
empty. C<serve> does so first; call it above modules that print while they load.

=item failure($code, $message, retry => 1, after_ms => 500, data => $value)

An error to die of, for a failure on purpose. The code is one of your own with a dot in it, or one of the protocol's.

=item bytes($string), true(), false()

Values that Perl has no kind for.

=back

=head2 Values

undef, true and false (objects of JSON::PP), integers, floats, texts (strings of characters), bytes (an object that is its
content as a string), array references, hash references. A scalar that was a string is sent as a text and one that was a
number as a number: write C<$n + 0> or C<"$n"> where it matters.

=head2 The task

A handler gets its input and a task: C<id>, C<request>, C<attempt>, C<key>, C<deadline> (as of Time::HiRes::time),
C<time_left>, C<cancelled>, C<check_cancelled> (dies), C<item($value)>, C<progress($done, $total, $note)>,
C<log($level, $message, %fields)>.

=head2 What it does not do

There is no second thread. A cancelled task that waits never begins; one that runs learns of it when it asks by C<cancelled>.
PING is not listed, because it would have to be answered while a handler runs. No batches, no stack traces.

=cut
