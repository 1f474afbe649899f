#!/usr/bin/env perl
# Reads the table of the test vectors (`stokehold conform vectors --tsv`) from a file, and looks whether this SDK takes each message
# of binary frames as the vector says, and writes its data again in the shortest form.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Stokehold::Worker;

# Whether two encodings are one value: a hash forgets the order of its keys, so that the pairs of a map may stand in another.
sub same {
    my ($found, $wanted) = @_;
    return 1 if $found eq $wanted;
    return 0 if $wanted !~ /^[\x80-\x8f\xde\xdf\x90-\x9f\xdc\xdd]/;
    return join('', sort split //, $found) eq join('', sort split //, $wanted);
}

# What is wrong with this SDK's reading of the message; nothing if all is well.
sub judge {
    my ($verdict, $stage, $body, $spec, $shortest) = @_;
    my ($request, $at) = eval { Stokehold::Worker::read_head($body) };
    return $verdict eq 'accept' || $stage eq 'data' ? "the head is refused: $@" : '' if !defined $at;
    return $verdict eq 'reject' ? 'the head is accepted' : '' if $stage eq 'head' && $verdict ne 'accept';
    my $found = eval { Stokehold::Worker::encode(Stokehold::Worker::decode_all($body, $at)) };
    return $verdict eq 'accept' ? "the data is refused: $@" : '' if !defined $found;
    # [D-13] lets a child accept what only these forbid.
    return $spec =~ /^D-[4-7]\z/ ? '' : 'the data is accepted' if $verdict eq 'reject';
    return same($found, $shortest) ? '' : 'the data is written otherwise: ' . unpack 'H*', substr $found, 0, 40;
}

my ($count, $wrong) = (0, 0);
while (my $line = <>) {
    chomp $line;
    my ($id, $verdict, $stage, $carrier, $bytes, $message, $spec, $shortest) = split /\t/, $line, -1;
    die "a line has too few fields\n" if !defined $shortest;
    next if $carrier ne 'frames' || $stage eq 'frame';
    $count++;
    my $problem = judge($verdict, $stage, substr(pack('H*', $bytes), 8), $spec, pack 'H*', $shortest) || next;
    $wrong++;
    print "$id [$spec]: $problem\n";
}
print "$count messages, $wrong wrong\n";
exit($wrong || !$count ? 1 : 0);
